// Maximize: an image that a class or a layer answers to, or an attack on the photograph.

import { source } from "./api.js";
import { $, $$, element, label, options, percent } from "./dom.js";
import { photograph } from "./photograph.js";
import { runnable } from "./run.js";

const PRESETS = {
  PRESET_LUCID: { shows: ["class", "steps", "side"], steps: 128, hint: "What a class looks like to the model: from noise, in Fourier space, robust to small moves." },
  PRESET_YOSINSKI: { shows: ["class", "steps", "side"], steps: 128, hint: "What a class looks like to the model: pixels, kept natural by decay and blur." },
  PRESET_SIMONYAN: { shows: ["class", "steps", "side"], steps: 128, hint: "What a class looks like to the model: plain climbing, the first way published." },
  PRESET_DEEPDREAM: { shows: ["layer", "steps"], steps: 10, image: true, hint: "DeepDream: the photograph, with more of what a layer sees in it." },
  PRESET_PGD: { shows: ["steps", "epsilon"], steps: 20, image: true, hint: "An attack: the photograph, changed so little that you hardly see it, but the model does." },
  PRESET_FGSM: { shows: ["epsilon"], image: true, hint: "An attack in one step." },
};
// DeepDream at the size of a large photograph takes minutes.
const DREAM_SIDE = 320;

let model = null;

export function use(chosen) {
  model = chosen;
  const layers = (model.layers ?? []).map((layer) => layer.name);
  options($("#maximize-layer"), layers, layers.includes("blocks.4") ? "blocks.4" : model.default_layer);
  const labels = model.class_labels ?? [];
  if (!labels.includes($("#maximize-class").value)) {
    $("#maximize-class").value = labels.includes("goldfish") ? "goldfish" : (labels[0] ?? "0");
  }
}

const preset = () => PRESETS[$("#preset").value];

function request() {
  const chosen = preset();
  if (chosen.image && !photograph()) throw new Error("Choose a photograph first: this way begins with one.");
  const name = $("#maximize-class").value.trim();
  const steps = Number($("#maximize-steps").value);
  const message = { model: model.name, preset: $("#preset").value, format: "IMAGE_FORMAT_PNG", objectives: [] };
  if (chosen.shows.includes("class")) {
    message.objectives.push({ class_score: /^\d+$/.test(name) ? { class_index: Number(name) } : { class_label: name } });
  }
  if (chosen.shows.includes("layer")) message.objectives.push({ layer: { layer: $("#maximize-layer").value } });
  if (chosen.shows.includes("steps")) {
    message.step_count = steps;
    message.preview_interval_steps = Math.max(1, Math.round(steps / 40));
  }
  if (chosen.shows.includes("side")) {
    const side = Number($("#maximize-side").value);
    message.size = { height: side, width: side };
  }
  if (chosen.shows.includes("epsilon")) {
    message.constraint = { norm: "NORM_LINF", epsilon: Number($("#maximize-epsilon").value) / 255 };
  }
  if (chosen.image) message.image = { encoded: photograph().encoded };
  if ($("#preset").value === "PRESET_DEEPDREAM") {
    const { width, height } = photograph();
    const scale = Math.min(1, DREAM_SIDE / Math.max(width, height));
    message.size = { height: Math.round(height * scale), width: Math.round(width * scale) };
  }
  return message;
}

function finished(view, result) {
  const change = result.perturbation;
  const attack = preset().shows.includes("epsilon");
  const now = `The model sees ${label(result.predictions[0])} (${percent(result.predictions[0].probability)})`;
  const text = attack && change?.before
    ? `${now}, before ${label(change.before)} (${percent(change.before.probability)}).` : `${now}.`;
  view.end(result.images[0], "maximized", result.values ?? [], result.stop_reason, text);
  if (attack && change?.picture) {
    view.place.append(element("figure", { class: "change" },
      element("img", { class: "picture", src: source(change.picture), alt: "the change, stretched to be seen" }),
      element("figcaption", {}, "The change, stretched to be seen.")));
  }
}

function arrange() {
  const chosen = preset();
  for (const field of $$("#maximize-form [data-for]")) field.hidden = !chosen.shows.includes(field.dataset.for);
  $("#preset-hint").textContent = chosen.hint;
  if (chosen.steps) $("#maximize-steps").value = chosen.steps;
}

export function listen() {
  $("#preset").addEventListener("change", arrange);
  arrange();
  runnable({
    form: $("#maximize-form"), place: $("#maximize-run"), rpc: "Maximize", value: "objective", request, finished,
    waiting: "The image appears here while it is made.",
  });
}
