// The page: which view is shown, and which model is asked.

import { models } from "./api.js";
import { $, $$, element, options, say, showError } from "./dom.js";
import * as explain from "./explain.js";
import * as maximize from "./maximize.js";
import * as photograph from "./photograph.js";
import * as stylize from "./stylize.js";

function view() {
  // A link to a place on the page changes no view.
  const name = $$("nav a").map((link) => link.hash.slice(1)).find((one) => location.hash === `#${one}`)
    ?? document.body.dataset.view ?? "explain";
  document.body.dataset.view = name;
  for (const part of $$("main [data-view]")) part.hidden = part.dataset.view !== name;
  for (const link of $$("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `gradserve: ${name}`;
  showError(null);
}

async function start() {
  for (const part of [photograph, explain, maximize, stylize]) part.listen();
  addEventListener("hashchange", view);
  view();
  say("Asking what the server has…");
  const found = await models();
  const classifiers = found.models.filter((one) => one.kind === "MODEL_KIND_CLASSIFIER");
  const stylizers = found.models.filter((one) => one.kind === "MODEL_KIND_STYLIZER");
  if (!classifiers.length) throw new Error("The server has no model that is ready.");
  options($("#model"), [...new Set(classifiers.map((one) => one.name))]);
  const use = () => {
    const model = classifiers.find((one) => one.name === $("#model").value);
    $("#labels").replaceChildren(...(model.class_labels ?? []).map((value) => element("option", { value })));
    explain.use(model, found.limits);
    maximize.use(model);
    stylize.use(model, stylizers);
    say(`${model.name}, ${model.class_count} classes, on ${model.device}.`);
  };
  $("#model").addEventListener("change", use);
  use();
  document.body.dataset.ready = "";
}

start().catch((error) => {
  say("");
  showError(error);
});
