// Stylize: the photograph in the style of a picture, or of a network that learned one.

import { $, $$, options, showError } from "./dom.js";
import { photograph, read } from "./photograph.js";
import { runnable } from "./run.js";

let model = null;
let style = null;

export function use(chosen, stylizers) {
  model = chosen;
  options($("#stylizer"), stylizers.map((one) => one.name), $("#stylizer").value);
  if (!stylizers.length) $("[name=style][value=picture]").checked = true;
  $("[name=style][value=network]").disabled = !stylizers.length;
  arrange();
}

const byPicture = () => $("[name=style]:checked").value === "picture";

function request() {
  if (!photograph()) throw new Error("Choose a photograph first.");
  const message = {
    content: { encoded: photograph().encoded }, size_px: Number($("#stylize-side").value), format: "IMAGE_FORMAT_PNG",
  };
  if (!byPicture()) return { ...message, feed_forward: { stylizer: $("#stylizer").value } };
  if (!style) throw new Error("Choose a style picture first.");
  const steps = Number($("#stylize-steps").value);
  return {
    ...message,
    preview_interval_steps: Math.max(1, Math.round(steps / 25)),
    optimization: {
      model: model.name, styles: [{ image: { encoded: style.encoded } }], step_count: steps,
      preserve_colors: $("#preserve-colors").checked,
    },
  };
}

function finished(view, result) {
  const losses = result.losses ?? [];
  const text = losses.length ? `The photograph in another style; loss ${losses.at(-1).toPrecision(3)}.`
    : `The photograph in the style of ${$("#stylizer").value}.`;
  view.end(result.image, "stylized", losses, result.stop_reason, text);
}

function arrange() {
  for (const field of $$("#stylize-form [data-for=picture]")) field.hidden = !byPicture();
  $("#stylizer").hidden = byPicture();
  $("#style-choice").hidden = !byPicture();
  $("#style-thumbnail").hidden = !byPicture() || !style;
}

export function listen() {
  for (const radio of $$("[name=style]")) radio.addEventListener("change", arrange);
  $("#style-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      style = await read(file);
      Object.assign($("#style-thumbnail"), { src: style.url, alt: `the style picture ${style.name}` });
      showError(null);
    } catch (error) {
      showError(error);
    }
    arrange();
  });
  runnable({
    form: $("#stylize-form"), place: $("#stylize-run"), rpc: "Stylize", value: "loss", request, finished,
    waiting: "The picture appears here while it is made.",
  });
}
