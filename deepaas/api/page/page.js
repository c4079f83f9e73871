// Starts Swagger UI on the page at /api.
"use strict";

const REQUIRED = "x-required";  // marks a schema

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

const withFormsFirst = (content) => {
  const bodies = Object.entries(content);
  bodies.sort(([, one], [, other]) => hasFiles(other) - hasFiles(one));
  return Object.fromEntries(bodies);
};

// Swagger UI makes the sample of each field of a form alone, so each required field gets a mark. It
// would send the items of a list joined by commas; with an encoding it sends each in its own part.
const prepareFields = (body) => {
  const {properties = {}, required = []} = body.schema || {};
  for (const [name, property] of Object.entries(properties)) {
    if (required.includes(name)) property[REQUIRED] = true;
    const isList = [property.type].flat().includes("array");
    if (isList) body.encoding = {[name]: {style: "form", explode: true}, ...body.encoding};
  }
};

const prepareBodies = (description) => {
  for (const item of Object.values(description.paths)) {
    for (const {requestBody} of Object.values(item)) {
      if (!requestBody) continue;
      requestBody.content = withFormsFirst(requestBody.content);
      for (const [type, body] of Object.entries(requestBody.content)) {
        if (type !== "application/json") prepareFields(body);
      }
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
  prepareBodies(description);
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
const begins = (schema) => REQUIRED in schema || "default" in schema || "examples" in schema;

const withoutInventedValues = (schema) => {
  if (!schema.properties) return schema;
  const required = schema.required || [];
  const properties = Object.fromEntries(Object.entries(schema.properties).filter(
    ([name, property]) => required.includes(name) || begins(property),
  ));
  return {...schema, properties};
};

function afterLoad() {
  const sample = this.fn.getSampleSchema;
  this.fn.getSampleSchema = (given, type, config, example) => {
    const schema = given && given.toJS ? given.toJS() : given;
    if (!config || !config.includeWriteOnly || !schema) return sample(schema, type, config, example);
    const isEmptyField = type === false && (!begins(schema) || schema.default === null);
    if (isEmptyField) return [schema.type].flat().includes("array") ? [] : "";
    return sample(withoutInventedValues(schema), type, config, example);
  };
}

// An empty field of a form is not sent, unless the user wants that.
const ParameterIncludeEmpty = (Original, system) => (props) => {
  const isIncludedOptions = {...props.isIncludedOptions, defaultValue: false};
  return system.React.createElement(Original, {...props, isIncludedOptions});
};

// There is one server, so there is nothing to choose.
const ServersContainer = () => () => null;

const plugin = () => ({
  afterLoad,
  statePlugins: {
    auth: {wrapActions: {authorize, logout}},
    layout: {wrapSelectors: {isShown}},
    spec: {wrapActions: {updateJsonSpec}},
  },
  wrapComponents: {ParameterIncludeEmpty, ServersContainer},
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
