/**
 * Where the packets of a row end.
 *
 * @module
 */

/**
 * Reads the column `ends` of a row of packets.
 *
 * @param blob Little-endian uint32, one a packet; `null`: a single packet.
 * @param payloadBytes The bytes of all packets.
 * @returns Where each ends; a text: what contradicts what.
 */
export function endsOf(blob: unknown, payloadBytes: number): Uint32Array | string {
  if (!(payloadBytes > 0)) return "it holds no bytes";
  if (blob === null) return Uint32Array.of(payloadBytes);
  if (!(blob instanceof Uint8Array) || blob.length === 0 || blob.length % 4 !== 0) {
    return "it does not say where its packets end";
  }
  const ends = new Uint32Array(blob.slice().buffer);
  let before = 0;
  for (const end of ends) {
    if (end <= before) return "its packets do not end one behind the other";
    before = end;
  }
  if (before !== payloadBytes) {
    return `its packets end at byte ${before}, its payload at ${payloadBytes}`;
  }
  return ends;
}
