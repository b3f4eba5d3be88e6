/** A nameserver for tests: says the same to every question. */

import { createSocket } from "node:dgram";

/** What it says: an IPv4 address, an error, or nothing at all. */
export type DnsAnswer = { readonly address: string } | "no-such-name" | "cannot" | "silent";

const HEADER_BYTES = 12;
const TYPE_A = 1;
/** QR, RD, RA. */
const RESPONSE = 0x8180;
const CODES = { "no-such-name": 3, "cannot": 2 };

/**
 * Listens on port 53.
 *
 * @param hostname Where.
 * @param answer What it says.
 * @param onQuestion Told each question's name.
 */
export function serveDns(
  hostname: string,
  answer: DnsAnswer,
  onQuestion: (name: string) => void,
): Promise<void> {
  const socket = createSocket("udp4");
  socket.on("message", (query, from) => {
    const question = readQuestion(query);
    onQuestion(question.name);
    if (answer !== "silent") socket.send(respond(query, question, answer), from.port, from.address);
  });
  return new Promise((resolve) => socket.bind(53, hostname, resolve));
}

interface Question {
  readonly name: string;
  readonly type: number;
  /** Where in the message it ends. */
  readonly end: number;
}

function readQuestion(query: Uint8Array): Question {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length; (length = query[at] ?? 0) > 0; at += 1 + length) {
    labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + length)));
  }
  const view = new DataView(query.buffer, query.byteOffset, query.byteLength);
  return { name: labels.join("."), type: view.getUint16(at + 1), end: at + 5 };
}

function respond(
  query: Uint8Array,
  { type, end }: Question,
  answer: Exclude<DnsAnswer, "silent">,
): Uint8Array {
  const record = typeof answer === "object" && type === TYPE_A
    // The question's name, A, IN, 5 s, 4 bytes.
    ? [
      0xc0,
      HEADER_BYTES,
      0,
      TYPE_A,
      0,
      1,
      0,
      0,
      0,
      5,
      0,
      4,
      ...answer.address.split(".").map(Number),
    ]
    : [];
  const response = new Uint8Array([...query.subarray(0, end), ...record]);
  const view = new DataView(response.buffer);
  view.setUint16(2, RESPONSE | (typeof answer === "string" ? CODES[answer] : 0));
  view.setUint16(6, record.length === 0 ? 0 : 1);
  view.setUint32(8, 0); // Neither authorities nor additional records.
  return response;
}
