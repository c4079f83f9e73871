"""`python -m deepaas` is the program `deepaas`."""

from deepaas.commands import main

if __name__ == "__main__":
    main(prog_name="deepaas")
