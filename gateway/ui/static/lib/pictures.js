// Pictures that are shown to a model: chosen, pasted or dropped, and made small enough to be sent with each turn.

const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const MOST_BYTES = 30_000_000; // of a file; a larger one is refused before it is read
const MOST_PIXELS = 50_000_000; // as the gateway has it
const AS_IT_IS = 250_000; // bytes; what is larger is made smaller
const LONGEST_SIDE = 1280; // pixels; models that see look at no more of a picture at once
const QUALITY = 0.85; // of the JPEG
export const MOST_PICTURES = 8; // of one message

/** @type {Set<string>} */
let seeing = new Set();

/** @param {{id: string, capabilities: string[] | null}[]} models as `v1/models` lists them */
export function setModels(models) {
  seeing = new Set(models.filter((each) => each.capabilities?.includes("images")).map((each) => each.id));
}

/** Tells whether a model sees, by its card. @param {string | undefined} model */
export const sees = (model) => seeing.has(model ?? "");

/** A picture cannot be shown; `why` is the name of the words that say it. */
export class PictureError extends Error {
  /** @param {import("./words.js").Words} why */
  constructor(why) {
    super(why);
    this.why = why;
  }
}

/** The pictures among what was pasted or dropped. @param {DataTransfer | null} data */
export const picturesOf = (data) => [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));

/** A picture as a data: URL. Throws `PictureError`. @param {File} file @returns {Promise<string>} */
export async function picture(file) {
  if (file.size > MOST_BYTES) throw new PictureError("picture_large");
  const image = await decoded(file);
  if (image.width * image.height > MOST_PIXELS) throw new PictureError("picture_large");
  if (file.size <= AS_IT_IS && KINDS.includes(file.type)) return asUrl(file);
  return smaller(image);
}

/** @param {File} file */
async function decoded(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new PictureError("picture_unread");
  }
}

/** @param {Blob} file @returns {Promise<string>} */
function asUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new PictureError("picture_unread"));
    reader.readAsDataURL(file);
  });
}

/** @param {ImageBitmap} image */
function smaller(image) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "#fff"; // what can be seen through would become black
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  return canvas.toDataURL("image/jpeg", QUALITY);
}
