// A clip's frames: read from .npy, drawn on a canvas. Knows no network and no page.

const MAGIC = 0x93;

/** The frames in an .npy file of uint8 [frames, height, width, 3]. */
export function parse(npy) {
  const view = new DataView(npy.buffer, npy.byteOffset, npy.byteLength);
  if (npy[0] !== MAGIC) throw new Error("the clip is not an .npy file");
  const wide = npy[6] > 1; // from version 2 on the header's length has four bytes
  const start = (wide ? 12 : 10) + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(npy.subarray(10, start));
  const shape = /'shape': \((\d+), (\d+), (\d+), 3\)/.exec(header);
  if (!shape || !header.includes("'|u1'") || header.includes("'fortran_order': True")) {
    throw new Error("the clip has frames of an unknown form");
  }
  const [numFrames, height, width] = shape.slice(1).map(Number);
  return { numFrames, height, width, rgb: npy.subarray(start) };
}

/** Draws one frame; the canvas has the clip's size. */
export function draw(canvas, clip, index) {
  const { width, height, rgb } = clip;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const size = width * height;
  for (let pixel = 0, at = index * size * 3; pixel < size; pixel++, at += 3) {
    image.data[4 * pixel] = rgb[at];
    image.data[4 * pixel + 1] = rgb[at + 1];
    image.data[4 * pixel + 2] = rgb[at + 2];
    image.data[4 * pixel + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
