import { DelimiterCodec } from "./delimiter.ts";

/** Packets that end with a newline. */
export const LINES: DelimiterCodec = new DelimiterCodec(Uint8Array.of(10), "lines");
