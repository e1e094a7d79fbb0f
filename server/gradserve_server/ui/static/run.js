// A call that takes steps: its progress while it runs, its picture, and a way to stop it.

import { events, source } from "./api.js";
import { $, element, say, showError, toResults } from "./dom.js";

const REASONS = {
  STOP_REASON_COMPLETED: "all steps were taken", STOP_REASON_FLAT: "nothing changed any more",
  STOP_REASON_DIVERGED: "the numbers stopped being finite", STOP_REASON_DEADLINE: "the time was up",
};

// form: with a submit button and a .stop button. place: where the run is shown. value: what is measured, in a word.
export function runnable({ form, place, rpc, value, request, finished, waiting }) {
  let running = null;
  const stop = $(".stop", form);
  place.replaceChildren(element("p", { class: "empty" }, waiting));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    running?.abort();
    const mine = (running = new AbortController());
    showError(null);
    const view = shown(place, value);
    toResults();
    let asked = false;
    try {
      const message = request();
      asked = true;
      stop.disabled = false;
      say("Waiting for the first step…");
      for await (const [kind, fields] of events(rpc, message, mine.signal)) {
        if (kind === "progress") view.step(fields);
        else finished(view, fields);
      }
    } catch (error) {
      showError(error);
      if (error.name === "AbortError") view.stopped();
      else if (mine === running) {
        say("");
        if (!asked || !view.begun) place.replaceChildren(element("p", { class: "empty" }, waiting));
      }
    } finally {
      if (mine === running) {
        stop.disabled = true;
        running = null;
      }
    }
  });
  stop.addEventListener("click", () => running?.abort());
}

function shown(place, value) {
  const picture = element("img", { class: "picture", alt: "", hidden: true });
  const bar = element("progress", { max: 1, value: 0, "aria-label": "Steps taken" });
  const facts = element("p", { class: "facts" });
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const chart = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  chart.setAttribute("class", "chart");
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("viewBox", "0 0 100 100");
  chart.setAttribute("role", "img");
  chart.append(line);
  const figure = element("figure", {}, picture, element("figcaption", {}, bar, facts, chart));
  place.replaceChildren(figure);
  const values = [];
  let last = null, previewed = 0;

  const plot = (numbers) => {
    const finite = numbers.filter(Number.isFinite);
    if (finite.length < 2) {
      chart.setAttribute("hidden", "");
      return;
    }
    chart.removeAttribute("hidden");
    const [low, high] = [Math.min(...finite), Math.max(...finite)];
    line.setAttribute("points", finite.map((one, index) =>
      `${(100 * index) / (finite.length - 1)},${95 - (90 * (one - low)) / (high - low || 1)}`).join(" "));
    chart.setAttribute("aria-label", `${value} by step, from ${finite[0].toPrecision(3)} to ${finite.at(-1).toPrecision(3)}`);
  };
  plot(values);

  return {
    place,
    figure,
    begun: false,
    step(progress) {
      this.begun = true;
      last = progress;
      values.push(progress.objective_value ?? 0);
      bar.max = progress.step_count;
      bar.value = progress.step;
      facts.textContent = `Step ${progress.step} of ${progress.step_count}, ${value} ${values.at(-1).toPrecision(4)}`;
      // Not each step: a screen reader would never come to an end.
      if (values.length === 1) say("Running…");
      plot(values);
      if (progress.preview) {
        previewed = progress.step;
        Object.assign(picture, { src: source(progress.preview), alt: `the image after step ${progress.step}`, hidden: false });
      }
    },
    stopped() {
      if (!last) place.replaceChildren();
      say(last ? `Stopped at step ${last.step} of ${last.step_count}; the picture is that of step ${previewed}.` : "Stopped.");
    },
    end(image, name, numbers, reason, text) {
      bar.value = bar.max;
      Object.assign(picture, { src: source(image), alt: text, hidden: false });
      const why = REASONS[reason] ?? "done";
      facts.replaceChildren(`${text} `, element("a", { href: source(image), download: `${name}.png` }, "Save"));
      plot(numbers);
      say(`Done: ${why}. ${text}`);
    },
  };
}
