"""`deepaas check`: loads a model as the server would, tries everything, and reports findings.

`command.py` leads through a check. `server.py` is a real server in a process of its own, which also
tells what its workers say about their models; `connection.py` starts it and sends requests to it.
The model runs only in the workers of this server.
"""
