// Calls every function of a server with the types of openapi-typescript, and prints each result as
// a line of JSON. Its arguments are the address of the server, a token, and a file that never exists.
import createClient from "openapi-fetch";
import type { components, paths } from "./description.js";

declare const process: { argv: string[] };

const [, , baseUrl, token, never] = process.argv as [string, string, string, string, string];
const signIn = (one: string) => ({ Authorization: `Bearer ${one}` });
const client = createClient<paths>({ baseUrl, headers: signIn(token) });

function show(name: string, result: unknown): void {
  console.log(JSON.stringify({ [name]: result }));
}

/** Return the data of a response; throw its error otherwise. */
function got<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

/** Return the result of a prediction. The other JSON is the record of an asynchronous one. */
function predictions<T extends object>(data: T | string): unknown {
  if (typeof data === "string" || !("predictions" in data)) throw new Error(JSON.stringify(data));
  return data.predictions;
}

/** Return a form with the fields of a body. Files are typed as texts, since JSON has no files. */
function form(body: object): FormData {
  const made = new FormData();
  for (const [name, value] of Object.entries(body)) {
    for (const one of Array.isArray(value) ? value : [value]) made.append(name, one as Blob);
  }
  return made;
}

const file = (text: string, name: string) => new File([text], name) as unknown as string;

const region: components["schemas"]["Region"] = {
  name: "a",
  corners: [{ x: 1, y: 2 }, { x: 3 }],
};
const predicted = await client.POST("/v2/models/regions/predict/", {
  body: { region, scale: 2, tags: ["t"], notes: { any: [1] } },
});
show("json", predictions(got(predicted)));

const uploaded = await client.POST("/v2/models/pictures/predict/", {
  body: {
    image: file("first", "größe.txt"),
    others: [file("second", "b.txt"), file("third", "c.txt")],
    comment: "c",
  },
  bodySerializer: form,
});
show("files", predictions(got(uploaded)));

const table = await client.POST("/v2/models/pictures/predict/", {
  body: { image: file("first", "a.txt") },
  bodySerializer: form,
  headers: { Accept: "text/csv" },
  parseAs: "text",
});
show("csv", got(table));

const refused = await client.POST("/v2/models/regions/predict/", { body: { region, scale: -1 } });
show("refused", [refused.response.status, refused.error]);
const stranger = await client.GET("/v2/models/regions/", { headers: signIn("wrong") });
show("stranger", [stranger.response.status, (stranger.error as { code: string }).code]);

const trainings = "/v2/models/pictures/train/";
const one = "/v2/models/pictures/train/{uuid}";
const begun = got(await client.POST(trainings, { body: { epochs: 3 } }));
const params = { path: { uuid: begun.uuid } };
let record = begun;
while (record.status === "queued" || record.status === "running") {
  got(await client.GET(`${one}/logs`, { params: { ...params, query: { follow: true } }, parseAs: "text" }));
  record = got(await client.GET(one, { params }));
}
show("record", [record.status, record.result?.output, record.args, record.metrics?.map((m) => m.loss)]);
show("logs", got(await client.GET(`${one}/logs`, { params, parseAs: "text" })));
const { artifacts } = got(await client.GET(`${one}/artifacts/`, { params }));
show("artifacts", artifacts.map((artifact) => artifact.path));
const path = { ...params.path, path: artifacts[0]!.path };
const artifact = await client.GET(`${one}/artifacts/{path}`, { params: { path }, parseAs: "text" });
show("artifact", got(artifact));

const query = { limit: 10, status: ["done" as const] };
const listed = got(await client.GET(trainings, { params: { query } }));
show("listed", listed.some((training) => training.uuid === begun.uuid));

const waiting = got(await client.POST(trainings, { body: { gate: never } }));
const ended = await client.DELETE(one, { params: { path: { uuid: waiting.uuid } } });
show("cancelled", got(ended).status);
show("models", got(await client.GET("/v2/models/")).models.map((model) => model.name));
