// Starts Swagger UI on the page at /api.
"use strict";

const element = document.getElementById("swagger-ui");

// The paths of the description begin with the base path. The page knows its own address, so it
// finds the server's root even if a proxy has removed or replaced the beginning of the path.
const base = element.dataset.base;
const root = new URL(element.dataset.root || "./", location.href).href.replace(/\/$/, "");

const pathBelowRoot = (path) => (path.startsWith(`${base}/`) ? path.slice(base.length) : path);

const withAddressesOfThisPage = (description) => {
  const paths = Object.entries(description.paths).map(([path, item]) => [pathBelowRoot(path), item]);
  return {...description, servers: [{url: root}], paths: Object.fromEntries(paths)};
};

// If a file may be sent, the page shows the form first, because only a form can have the file.
const hasFiles = (body) => JSON.stringify(body.schema || {}).includes('"format":"binary"');

const showFormsFirst = (description) => {
  for (const item of Object.values(description.paths)) {
    for (const {requestBody} of Object.values(item)) {
      if (!requestBody) continue;
      const bodies = Object.entries(requestBody.content);
      bodies.sort(([, one], [, other]) => hasFiles(other) - hasFiles(one));
      requestBody.content = Object.fromEntries(bodies);
    }
  }
};

// Operations of models are shown; all other tags are folded until the user opens them.
let modelTags = new Set();

const tagsOfModels = (description) => new Set(
  Object.entries(description.paths)
    .filter(([path]) => /^\/v2\/models\/[^/]+\//.test(path))
    .flatMap(([, item]) => Object.values(item).flatMap((operation) => operation.tags)),
);

const updateJsonSpec = (original) => (received) => {
  if (!received || !received.paths) return original(received);
  const description = withAddressesOfThisPage(received);
  showFormsFirst(description);
  modelTags = tagsOfModels(description);
  document.title = modelTags.size ? `${description.info.title} - DEEPaaS` : "DEEPaaS";
  return original(description);
};

const isShown = (original) => (state, key, otherwise) => {  // original knows the state
  const [kind, tag] = [key].flat();
  const isFolded = kind === "operations-tag" && !modelTags.has(tag);
  return original(key, otherwise && !isFolded);
};

// After a sign-in, the page asks again for the description, which then has the client's models.
let authorization = "";

const askAgain = (system) => system.specActions.download(element.dataset.spec);

const authorize = (original, system) => (payload) => {
  const value = payload.token.value.trim().replace(/^bearer\s+/i, "");
  authorization = `Bearer ${value}`;
  const result = original({...payload, token: {...payload.token, value}});
  askAgain(system);
  return result;
};

const logout = (original, system) => (payload) => {
  authorization = "";
  const result = original(payload);
  askAgain(system);
  return result;
};

const requestInterceptor = (request) => {
  if (request.loadSpec && authorization) request.headers.Authorization = authorization;
  return request;
};

// A body begins with what must be sent and what the author names. Swagger UI would add an invented
// value for every other argument, and the model would get it.
const withoutInventedValues = (given) => {
  const schema = given && given.toJS ? given.toJS() : given;
  if (!schema || !schema.properties) return schema;
  const required = schema.required || [];
  const isKnown = ([name, property]) =>
    required.includes(name) || "default" in property || "examples" in property;
  const properties = Object.fromEntries(Object.entries(schema.properties).filter(isKnown));
  return {...schema, properties};
};

function afterLoad() {
  const sample = this.fn.getSampleSchema;
  this.fn.getSampleSchema = (schema, type, config, example) => {
    const isOfRequest = config && config.includeWriteOnly;
    return sample(isOfRequest ? withoutInventedValues(schema) : schema, type, config, example);
  };
}

const plugin = () => ({
  afterLoad,
  statePlugins: {
    auth: {wrapActions: {authorize, logout}},
    layout: {wrapSelectors: {isShown}},
    spec: {wrapActions: {updateJsonSpec}},
  },
  // There is one server, so there is nothing to choose.
  wrapComponents: {ServersContainer: () => () => null},
});

SwaggerUIBundle({
  url: element.dataset.spec,
  domNode: element,
  plugins: [plugin],
  requestInterceptor,
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
