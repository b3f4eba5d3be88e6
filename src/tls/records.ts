/**
 * The arithmetic of TLS records: where in the ciphertext a byte of plaintext ends.
 * Told by counting, never by a callback of the TLS library, which may come before the
 * bytes are out.
 *
 * A fragment of n bytes becomes one record whose size is known beforehand. So each write
 * says which records must come out, and each record that comes out is held against that.
 * One of another size means that the arithmetic does not hold for this connection, and
 * ends it: nothing is confirmed on a guess.
 *
 * @module
 */

import { WireError } from "../base/errors.ts";

/** The most plaintext that a record carries (RFC 8446, 5.1). */
export const MAX_FRAGMENT_BYTES = 16_384;
/** What the library takes at once without cutting fragments in another way. */
const MAX_WRITE_BYTES = 3 * MAX_FRAGMENT_BYTES;
/** Type, version, length. */
const HEADER_BYTES = 5;
/**
 * AES-GCM in TLS 1.2 is safe for this many records a key (RFC 9325, 4.4: 2^24.5; half an
 * exponent less is kept), and 1.2 has no way to a new key but a new connection.
 */
const MAX_RECORDS_OF_12 = 2 ** 23;

/** `ContentType` of RFC 8446, B.1. */
export const RecordType = { CHANGE_CIPHER_SPEC: 20, ALERT: 21, HANDSHAKE: 22, DATA: 23 } as const;

/**
 * How long the encrypted content of an alert is, and of a KeyUpdate. In TLS 1.3 both look
 * like data of that length; so data is never sent in fragments of 2 or 5 bytes.
 */
const ALERT_BYTES = 2;
/** See {@linkcode ALERT_BYTES}. */
export const KEY_UPDATE_BYTES = 5;

/** Told of each record: its type, the length of what follows its header, and where it ends. */
export type OnRecord = (type: number, payloadBytes: number, endOffset: number) => void;

/** Follows a stream of records by their headers. */
export class RecordFollower {
  readonly #onRecord: OnRecord;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #leftBytes = 0;
  #offset = 0;

  /** @param onRecord Told of each record once it is complete. */
  constructor(onRecord: OnRecord) {
    this.#onRecord = onRecord;
  }

  /** How many bytes have passed. */
  get offset(): number {
    return this.#offset;
  }

  /** Whether a record has begun and not ended. */
  get midRecord(): boolean {
    return this.#headerBytes > 0;
  }

  /** The next bytes of the stream. */
  feed(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#headerBytes < HEADER_BYTES) {
        this.#header[this.#headerBytes++] = bytes[at++] ?? 0;
        this.#offset++;
        if (this.#headerBytes < HEADER_BYTES) continue;
        this.#leftBytes = this.#payloadBytes;
      } else {
        const taken = Math.min(this.#leftBytes, bytes.length - at);
        at += taken;
        this.#leftBytes -= taken;
        this.#offset += taken;
      }
      if (this.#leftBytes > 0) continue;
      this.#headerBytes = 0;
      this.#onRecord(this.#header[0] ?? 0, this.#payloadBytes, this.#offset);
    }
  }

  get #payloadBytes(): number {
    return ((this.#header[3] ?? 0) << 8) | (this.#header[4] ?? 0);
  }
}

/** What the size of a record depends on. */
export interface RecordFormat {
  /** Whether it is TLS 1.3, which hides a record's type. */
  readonly hidesTypes: boolean;
  /** Payload beyond the plaintext. */
  readonly overheadBytes: number;
}

/**
 * The format of a suite's records.
 *
 * @param version `"TLSv1.3"` or `"TLSv1.2"`.
 * @param cipherSuite By IANA's name.
 * @returns `undefined` where it is not known.
 */
export function recordFormatOf(version: string, cipherSuite: string): RecordFormat | undefined {
  const gcm = cipherSuite.includes("_GCM_");
  const chacha = cipherSuite.includes("_CHACHA20_POLY1305");
  if (!gcm && !chacha) return undefined;
  // The hidden type and the tag; an explicit nonce and the tag; the tag.
  if (version === "TLSv1.3") return { hidesTypes: true, overheadBytes: 1 + 16 };
  if (version === "TLSv1.2") return { hidesTypes: false, overheadBytes: gcm ? 8 + 16 : 16 };
  return undefined;
}

/** Whether a record that came in cannot be an alert. */
export function isNoAlert({ hidesTypes, overheadBytes }: RecordFormat, payload: number): boolean {
  return !hidesTypes || payload !== ALERT_BYTES + overheadBytes;
}

/**
 * How much of a write goes out at once, as fragments of which none is as long as an alert
 * or a KeyUpdate.
 *
 * @param bytes How much there is to write: 1 or more.
 */
export function bytesToWrite(bytes: number): number {
  const most = Math.min(bytes, MAX_WRITE_BYTES);
  const last = most % MAX_FRAGMENT_BYTES;
  return last === ALERT_BYTES || last === KEY_UPDATE_BYTES ? most - 1 : most;
}

/** Which records are still to come, and where in the ciphertext those that came have ended. */
export class RecordBook {
  readonly #format: RecordFormat;
  /** Plaintext bytes of each record that has to come out next. */
  #expected: number[] = [];
  /** Where each record of data ended that may not be acknowledged yet: ciphertext, plaintext. */
  #cipherEnds: number[] = [];
  #plainEnds: number[] = [];
  #passedBytes = 0;
  #records = 0;
  #writtenBytes = 0;
  #emittedBytes = 0;

  /** @param format How long the connection's records are. */
  constructor(format: RecordFormat) {
    this.#format = format;
  }

  /** Plaintext bytes handed over. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Whether records have to come out before anything else may be written. */
  get expectsRecords(): boolean {
    return this.#expected.length > 0;
  }

  /** How many records have come out. */
  get records(): number {
    return this.#records;
  }

  /**
   * So many bytes, as {@linkcode bytesToWrite} says, are handed to the library next.
   *
   * @throws {WireError} The key has been used for as many records as it is good for.
   */
  expect(bytes: number): void {
    if (!this.#format.hidesTypes && this.#records >= MAX_RECORDS_OF_12) {
      throw new WireError(
        "TLS_KEY_USED_UP",
        "TLS 1.2 needs a new connection for a new key; it is made (TLS_KEY_USED_UP)",
      );
    }
    this.#writtenBytes += bytes;
    for (let left = bytes; left > 0; left -= MAX_FRAGMENT_BYTES) {
      this.#expected.push(Math.min(left, MAX_FRAGMENT_BYTES));
    }
  }

  /**
   * A record has come out.
   *
   * @throws {WireError} It is none that was due.
   */
  emitted(type: number, payloadBytes: number, endOffset: number): void {
    this.#records++;
    if (this.#isControl(type, payloadBytes)) return;
    const due = this.#expected.shift();
    const { overheadBytes } = this.#format;
    if (type !== RecordType.DATA || due === undefined || payloadBytes !== due + overheadBytes) {
      throw new WireError(
        "TLS_ACCOUNTING",
        `the TLS library sent a record of type ${type} with ${payloadBytes} bytes where ` +
          `${due === undefined ? "none was" : `${due + overheadBytes} of data were`} due: what ` +
          `has arrived cannot be counted (TLS_ACCOUNTING). Please report this`,
      );
    }
    this.#emittedBytes += due;
    this.#cipherEnds.push(endOffset);
    this.#plainEnds.push(this.#emittedBytes);
  }

  /**
   * How much plaintext has ended within the first bytes of ciphertext.
   *
   * @param cipherBytes So many bytes of ciphertext; not less than was ever forgotten.
   */
  plainWithin(cipherBytes: number): number {
    return this.#plainEnds[this.#countWithin(cipherBytes) - 1] ?? this.#passedBytes;
  }

  /** What ends within these bytes of ciphertext is acknowledged, and stays so. */
  forget(cipherBytes: number): void {
    const count = this.#countWithin(cipherBytes);
    if (count === 0) return;
    this.#passedBytes = this.#plainEnds[count - 1] ?? this.#passedBytes;
    this.#cipherEnds.splice(0, count);
    this.#plainEnds.splice(0, count);
  }

  #isControl(type: number, payloadBytes: number): boolean {
    const { hidesTypes, overheadBytes } = this.#format;
    if (!hidesTypes) return type === RecordType.ALERT;
    return type === RecordType.DATA &&
      (payloadBytes === ALERT_BYTES + overheadBytes ||
        payloadBytes === KEY_UPDATE_BYTES + overheadBytes);
  }

  #countWithin(cipherBytes: number): number {
    let low = 0, high = this.#cipherEnds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#cipherEnds[middle] ?? Infinity) <= cipherBytes) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
