/** What OpenSSL says of a failure, in the words that the rest of TLS here has. */

import { wireError } from "../../base/errors.ts";
import { alertName, keyNotProven } from "../alerts.ts";
import type { Libssl } from "./libssl.ts";

/** `ERR_LIB_SSL`; include/openssl/err.h. */
const LIB_SSL = 20;
const LIB_OFFSET = 23n;
const REASON_MASK = 0x7fffffn;
/** `SSL_AD_REASON_OFFSET`: an alert of the peer is this and its number; include/openssl/ssl.h. */
const ALERT_OFFSET = 1000;
/** `SSL_R_…`; include/openssl/sslerr.h. */
const Reason = { BAD_SIGNATURE: 123, CERTIFICATE_VERIFY_FAILED: 134 } as const;
/** `X509_V_ERR_…`; include/openssl/x509_vfy.h. */
const NAME_MISMATCHES = new Set([62, 63, 64]);
const TEXT_BYTES = 256;

/** The oldest error of the thread's queue: what the others came of. Empties the queue. */
function takeError(lib: Libssl): { readonly number: number; readonly text: string } | undefined {
  const packed = lib.ERR_get_error();
  if (packed === 0n) return undefined;
  lib.ERR_clear_error();
  const text = new Uint8Array(TEXT_BYTES);
  lib.ERR_error_string_n(packed, text, BigInt(text.length));
  const whole = new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
  return {
    number: Number(packed >> LIB_OFFSET) === LIB_SSL ? Number(packed & REASON_MASK) : 0,
    // error:0A000086:SSL routines::certificate verify failed
    text: whole.slice(whole.lastIndexOf(":") + 1),
  };
}

/** Why a call on a connection has failed. */
export function connectionFailure(lib: Libssl, ssl: bigint): Error {
  const error = takeError(lib);
  if (error === undefined) return new Error("OpenSSL has failed without a reason");
  const { number, text } = error;
  if (number === Reason.BAD_SIGNATURE) return keyNotProven(new Error(text));
  if (number === Reason.CERTIFICATE_VERIFY_FAILED) {
    const result = lib.SSL_get_verify_result(ssl);
    const code = NAME_MISMATCHES.has(Number(result))
      ? "CERT_ALTNAME_MISMATCH"
      : "CERT_VERIFY_FAILED";
    const words = textAt(lib, lib.X509_verify_cert_error_string(result));
    return wireError(code, `the server's certificate is not taken: ${words}`);
  }
  if (number > ALERT_OFFSET) {
    return new Error(`received fatal alert: ${alertName(number - ALERT_OFFSET)}`);
  }
  return new Error(text);
}

/** @throws {Error} A call that concerns no connection has not done what it must. */
export function must(lib: Libssl, done: boolean, call: string): void {
  if (done) return;
  throw new Error(`${call} has failed: ${takeError(lib)?.text ?? "OpenSSL does not say why"}`);
}

function textAt(lib: Libssl, address: bigint): string {
  return new TextDecoder().decode(throughMemory(lib, (bio) => lib.BIO_puts(bio, address)));
}

/** What `write` writes to memory of OpenSSL's. */
export function throughMemory(
  lib: Libssl,
  write: (bio: bigint) => void,
): Uint8Array<ArrayBuffer> {
  const bio = newMemory(lib);
  try {
    write(bio);
    return takeAll(lib, bio);
  } finally {
    lib.BIO_free(bio);
  }
}

/** Memory of OpenSSL's; the caller frees it. */
export function newMemory(lib: Libssl): bigint {
  const bio = lib.BIO_new(lib.BIO_s_mem());
  must(lib, bio !== 0n, "BIO_new");
  return bio;
}

/** Whatever lies in such memory, which is empty then. */
export function takeAll(lib: Libssl, bio: bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Number(lib.BIO_ctrl_pending(bio)));
  if (bytes.length > 0) {
    must(lib, lib.BIO_read(bio, bytes, bytes.length) === bytes.length, "BIO_read");
  }
  return bytes;
}
