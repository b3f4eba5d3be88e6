/**
 * What a stream most likely is that does not look like what was said of it: in the wrong
 * framing it may never contain the end of a packet, and would be taken in without a word.
 */

/** From here on it is worth a word that no packet has become whole. */
const DOUBT_BYTES = 60 * 1024;
/** So much of a packet is looked at. */
const HEAD_BYTES = 1024;

function isText(byte: number): boolean {
  return (byte >= 32 && byte < 127) || byte === 9 || byte === 10 || byte === 13;
}

export function looksLikeText(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 64).every(isText);
}

/**
 * What is strange about a packet that should end with certain bytes. Where these are no text,
 * only the size says something.
 *
 * @param bytes The first packet, as far as it has come.
 * @param endName What its end is called: `"newline"`.
 */
export function doubtOfText(
  bytes: Uint8Array,
  endName: string,
  end: Uint8Array,
): string | undefined {
  const sign = end.every((byte) => isText(byte) || byte === 0)
    ? signOf(bytes, !end.includes(0))
    : undefined;
  if (bytes.length < DOUBT_BYTES) return sign;
  const size = `${Math.floor(bytes.length / 1024)} KiB and no ${endName}`;
  return `${size}: ${sign ?? `does its sender end each packet with a ${endName}?`}`;
}

/** What bytes begin like that are no text ending with some mark. */
function signOf(bytes: Uint8Array, mayHaveNul: boolean): string | undefined {
  const head = bytes.subarray(0, HEAD_BYTES);
  const text = new TextDecoder().decode(head.subarray(0, 24));
  if (/^[1-9]\d{0,9} <\d/.test(text)) {
    const shown = JSON.stringify(text.slice(0, text.indexOf("<") + 5));
    return `it begins with ${shown}, like syslog with octet counting: is it input "syslog"?`;
  }
  if (head[0] === 0x0b) return 'it begins with the byte 0b, like HL7: is it input "mllp"?';
  if (head.length > 1 && head[0] === head[1] && (head[0] === 0x78 || head[0] === 0x79)) {
    const isBinary = !looksLikeText(head);
    if (isBinary) return 'it begins like a tracker\'s packet: is it input "gt06"?';
  }
  if (head[0] === 0) {
    return 'it begins with a zero byte: is it input "length32", or "length16"?';
  }
  if (mayHaveNul && (head.includes(0) || bytes.at(-1) === 0)) {
    return 'it has NUL bytes: does its sender end each packet with one, as GELF does, input "gelf"?';
  }
  return undefined;
}
