// Explain: several methods side by side, over the photograph.

import { call, source } from "./api.js";
import { $, $$, element, label, options, percent, say, showError, toResults } from "./dom.js";
import { changed, photograph } from "./photograph.js";

const FIRST = ["grad_cam", "saliency", "guided_backprop", "lrp"];

let model = null;
let asking = null;

export function use(chosen, limits) {
  model = chosen;
  const supported = (model.methods ?? []).filter((method) => method.supported);
  const ticked = new Set(chosenMethods().length ? chosenMethods() : FIRST);
  $("#methods").replaceChildren(...supported.map(({ method, caveat }) => element(
    "label", { class: "choice", title: caveat },
    element("input", { type: "checkbox", name: "method", value: method, checked: ticked.has(method) }), method,
  )));
  const refused = (model.methods ?? []).filter((method) => !method.supported);
  $("#refused").textContent = refused.length
    ? `Not for this model: ${refused.map(({ method, refusal }) => `${method} (${refusal})`).join("; ")}.` : "";
  options($("#color-map"), ["", ...(limits.color_maps ?? [])], $("#color-map").value);
  $("#color-map").options[0].textContent = "the default";
  forget();
}

const chosenMethods = () => $$("#methods input:checked").map((box) => box.value);

// What was said of another photograph or model.
function forget() {
  asking?.abort();
  $("#predictions").replaceChildren();
  $("[name=target][value='']").checked = true;
  $("#blend").hidden = true;
  $("#explanations").replaceChildren(element("p", { class: "empty" },
    "The maps appear here, over the photograph: which parts of it made the model say what it says."));
}

function targets() {
  const chosen = $("[name=target]:checked").value;
  if (chosen === "") return [];
  return [chosen === "other" ? { class_label: $("#other").value.trim() } : { class_index: Number(chosen) }];
}

function request() {
  return {
    model: model.name,
    image: { encoded: photograph().encoded },
    methods: chosenMethods().map((name) => ({ [name]: {} })),
    targets: targets(),
    frame: "FRAME_ORIGINAL",
    overlay: {
      format: "IMAGE_FORMAT_WEBP", background: $("#background").value, color_map: $("#color-map").value,
      polarity: $("#polarity").value, type: $("#overlay-type").value,
    },
    ...($("#trust").checked ? { trust: {} } : {}),
  };
}

async function explain() {
  if (!photograph()) {
    showError(new Error("Choose a photograph first."));
    return;
  }
  asking?.abort();
  const mine = (asking = new AbortController());
  const stop = $("#explain-form .stop");
  stop.disabled = false;
  showError(null);
  const started = performance.now();
  const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
  toResults();
  say(`Asking ${chosenMethods().length} method(s)…`);
  $("#explanations").classList.add("waiting");
  try {
    const answer = await call("Explain", request(), mine.signal);
    show(answer);
    const facts = answer.metadata;
    say(`${answer.explanations.length} maps of “${answer.explanations[0].target_description}” in ${seconds()} s, ` +
        `${facts.pass_count} pass(es) of the model.`);
  } catch (error) {
    if (mine === asking) say(error.name === "AbortError" ? "Stopped." : "");
    showError(error);
  } finally {
    if (mine === asking) {
      stop.disabled = true;
      asking = null;
      $("#explanations").classList.remove("waiting");
    }
  }
}

function show(answer) {
  showPredictions(answer.predictions);
  const caveats = Object.fromEntries(model.methods.map(({ method, caveat }) => [method, caveat]));
  $("#explanations").replaceChildren(...answer.explanations.map((one) => figure(one, caveats[one.method])));
  $("#blend").hidden = false;
  blend();
}

function showPredictions(predictions) {
  const chosen = $("[name=target]:checked").value;
  $("#predictions").replaceChildren(...predictions.map((score) => {
    const bar = element("span", { class: "bar" });
    bar.style.width = `${100 * (score.probability ?? 0)}%`;
    return element("label", { class: "choice prediction" }, bar,
      element("input", { type: "radio", name: "target", value: score.class_index ?? 0 }),
      element("span", {}, label(score)), element("span", { class: "percent" }, percent(score.probability)));
  }));
  const again = $(`[name=target][value="${chosen}"]`);
  if (again) again.checked = true;
}

function figure(one, caveat) {
  const url = source(one.overlay);
  const title = element("div", { class: "title" }, element("strong", {}, one.method),
    element("a", { href: url, download: `${one.method}.webp` }, "Save", element("span", { class: "unseen" }, ` ${one.method}`)));
  const caption = element("figcaption", {}, title,
    element("p", { class: "facts" }, `of “${one.target_description}”` + (one.layers ? ` at ${one.layers.join(", ")}` : "")));
  if (one.trust) caption.append(verdict(one.trust));
  if (caveat) caption.append(element("p", { class: "caveat" }, caveat));
  return element("figure", {}, element("div", { class: "stack" },
    element("img", { src: photograph().url, alt: "" }),
    element("img", { src: url, class: "over", alt: `map of ${one.method} for ${one.target_description}` })), caption);
}

function verdict(trust) {
  const name = (trust.verdict ?? "").replace("VERDICT_", "").toLowerCase();
  return element("p", {}, element("span", { class: `verdict ${name}` }, `${name}. `), trust.summary);
}

function blend() {
  const value = $("#opacity").value;
  for (const image of $$("#explanations .over")) image.style.opacity = value / 100;
  $("#opacity-value").textContent = `${value} %`;
  $("#opacity").setAttribute("aria-valuetext", `${value} %`);
}

export function listen() {
  $("#explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    explain();
  });
  $("#explain-form .stop").addEventListener("click", () => asking?.abort());
  $("#opacity").addEventListener("input", blend);
  $("#other").addEventListener("input", () => { $("#other-target").checked = true; });
  $("#predictions").addEventListener("change", explain);
  changed.addEventListener("change", () => {
    forget();
    if (document.body.dataset.view === "explain") explain();
  });
}
