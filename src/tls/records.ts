/**
 * The arithmetic of TLS records: where in the ciphertext a byte of plaintext ends. It is
 * counted, for a callback of the TLS library may come before the bytes are out.
 *
 * A fragment of n bytes becomes one record of a known size. So each write says which records
 * must come out, and one of another size ends the connection: nothing is confirmed on a guess.
 */

import { WireError, wireError } from "../base/errors.ts";
import { PairFifo } from "../base/pair_fifo.ts";

/** The most plaintext that a record carries (RFC 8446, 5.1). */
const MAX_FRAGMENT_BYTES = 16_384;
/** What the library takes at once without cutting it in another way. */
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
export const KEY_UPDATE_BYTES = 5;

/** Told of each record once it is complete; `payloadBytes` are those behind its header. */
export type OnRecord = (type: number, payloadBytes: number, endOffset: number) => void;

/** Follows a stream of records by their headers. */
export class RecordFollower {
  readonly #onRecord: OnRecord;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #leftBytes = 0;
  #offset = 0;

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

/** Of each suite of TLS 1.3: the hidden type and the tag. */
export const FORMAT_OF_1_3: RecordFormat = { hidesTypes: true, overheadBytes: 1 + 16 };

/** The format of a suite's records, by IANA's name; `undefined`: it is not known. */
export function recordFormatOf(version: string, cipherSuite: string): RecordFormat | undefined {
  const gcm = cipherSuite.includes("_GCM_");
  const chacha = cipherSuite.includes("_CHACHA20_POLY1305");
  if (!gcm && !chacha) return undefined;
  if (version === "TLSv1.3") return FORMAT_OF_1_3;
  // An explicit nonce and the tag; the tag.
  if (version === "TLSv1.2") return { hidesTypes: false, overheadBytes: gcm ? 8 + 16 : 16 };
  return undefined;
}

/** Whether a record that came in cannot be an alert. */
export function isNoAlert({ hidesTypes, overheadBytes }: RecordFormat, payload: number): boolean {
  return !hidesTypes || payload !== ALERT_BYTES + overheadBytes;
}

/**
 * How much of so many bytes, 1 or more, goes out at once, as fragments of which none is as long
 * as an alert or a KeyUpdate.
 */
export function bytesToWrite(bytes: number): number {
  const most = Math.min(bytes, MAX_WRITE_BYTES);
  const last = most % MAX_FRAGMENT_BYTES;
  return looksLikeControl(last) ? most - 1 : most;
}

function looksLikeControl(contentBytes: number): boolean {
  return contentBytes === ALERT_BYTES || contentBytes === KEY_UPDATE_BYTES;
}

/** Which records are still to come, and where in the ciphertext those that came have ended. */
export class RecordBook {
  readonly #format: RecordFormat;
  /** Plaintext bytes of each record that has to come out next. */
  #expected: number[] = [];
  /** Where each record of data ended that may not be acknowledged yet: (ciphertext, plaintext). */
  readonly #ends = new PairFifo();
  #passedBytes = 0;
  #records = 0;
  #writtenBytes = 0;
  #emittedBytes = 0;

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
   * So many bytes, as `bytesToWrite` says, are handed to the library next.
   *
   * @throws {WireError} The key has been used for as many records as it is good for.
   */
  expect(bytes: number): void {
    if (!this.#format.hidesTypes && this.#records >= MAX_RECORDS_OF_12) {
      throw wireError(
        "TLS_KEY_USED_UP",
        "TLS 1.2 needs a new connection for a new key; it is made",
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
   * @throws {WireError} None was due, or not that one.
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
    this.#ends.push(endOffset, this.#emittedBytes);
  }

  /** How much plaintext ends within so much ciphertext: not less than was ever forgotten. */
  plainWithin(cipherBytes: number): number {
    let low = 0, high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends.keyAt(middle) <= cipherBytes) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? this.#passedBytes : this.#ends.valueAt(low - 1);
  }

  /** What ends within these bytes of ciphertext is acknowledged, and stays so. */
  forget(cipherBytes: number): void {
    while (this.#ends.length > 0 && this.#ends.firstKey <= cipherBytes) {
      this.#passedBytes = this.#ends.firstValue;
      this.#ends.shift();
    }
  }

  #isControl(type: number, payloadBytes: number): boolean {
    const { hidesTypes, overheadBytes } = this.#format;
    if (!hidesTypes) return type === RecordType.ALERT;
    return type === RecordType.DATA && looksLikeControl(payloadBytes - overheadBytes);
  }
}
