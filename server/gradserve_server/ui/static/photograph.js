// The photograph that all calls are about: from a drop, the clipboard, a file or the server's own two.

import { $, $$, showError } from "./dom.js";

// What is shown is larger than what a model sees; more would only take time on the way.
const LONGEST_SIDE = 1280;

export const changed = new EventTarget();
let current = null;

// { encoded, url, width, height, name }; null before the first.
export const photograph = () => current;

export async function read(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "the file"} is not a picture that can be read: give a JPEG, PNG or WebP file`);
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [Math.round(bitmap.width * scale), Math.round(bitmap.height * scale)];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  // As the service does with transparency.
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const blob = await canvas.convertToBlob({ type: "image/png" });
  return { encoded: await base64(blob), url: URL.createObjectURL(blob), width, height, name: file.name || "pasted picture" };
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function take(file) {
  if (!file) return;
  try {
    const next = await read(file);
    if (current) URL.revokeObjectURL(current.url);
    current = next;
  } catch (error) {
    showError(error);
    return;
  }
  showError(null);
  const thumbnail = $("#thumbnail");
  Object.assign(thumbnail, { src: current.url, alt: `the photograph ${current.name}`, hidden: false });
  $("#photograph-name").textContent = `${current.name}, ${current.width} × ${current.height} pixels`;
  changed.dispatchEvent(new Event("change"));
}

export function listen() {
  const zone = $("#zone");
  $("#file").addEventListener("change", (event) => take(event.target.files[0]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => zone.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  for (const button of $$("[data-photograph]")) {
    button.addEventListener("click", async () => {
      const response = await fetch(`photographs/${button.dataset.photograph}.png`);
      const blob = await response.blob();
      take(new File([blob], `${button.dataset.photograph}.png`, { type: blob.type }));
    });
  }
}
