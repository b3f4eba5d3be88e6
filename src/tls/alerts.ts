/**
 * What a server says when it refuses (RFC 8446, 6.2), in words that say what to do.
 *
 * @module
 */

import { WireError } from "../base/errors.ts";

/** By the name that the TLS library has for the alert. */
const WORDS: Readonly<Record<string, string>> = {
  AccessDenied: "the server knows our certificate and lets it do nothing",
  BadCertificate: "the server cannot use our certificate",
  BadRecordMac: "a record was damaged on the way to the server",
  CertificateExpired: "our certificate has expired, says the server: tls.cert has to be renewed",
  CertificateRequired: "the server wants a certificate of ours: set tls.cert and tls.key",
  CertificateRevoked: "our certificate was revoked, says the server",
  CertificateUnknown: "the server does not take our certificate, and does not say why",
  DecryptError: "the server could not check a signature of ours: does it know our certificate?",
  HandshakeFailure: "the server has no cipher suite in common with us, or (in TLS 1.2) wants a " +
    "certificate of ours, which tls.cert and tls.key give it",
  InsufficientSecurity: "the server wants stronger cipher suites than ours",
  NoApplicationProtocol: "the server takes none of the protocols of tls.alpn",
  ProtocolVersion: "the server speaks no version of TLS from tls.minVersion to tls.maxVersion",
  UnknownCA: "the server does not trust who issued our certificate, or misses one between them " +
    "in tls.cert",
  UnrecognisedName: "the server knows no such name: set tls.serverName",
  UnsupportedCertificate: "the server cannot use a certificate of this kind, or for this use",
};

/** By the number that it has on the wire (RFC 8446, B.2), those that end a connection. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [10, "UnexpectedMessage"],
  [20, "BadRecordMac"],
  [22, "RecordOverflow"],
  [40, "HandshakeFailure"],
  [42, "BadCertificate"],
  [43, "UnsupportedCertificate"],
  [44, "CertificateRevoked"],
  [45, "CertificateExpired"],
  [46, "CertificateUnknown"],
  [47, "IllegalParameter"],
  [48, "UnknownCA"],
  [49, "AccessDenied"],
  [50, "DecodeError"],
  [51, "DecryptError"],
  [70, "ProtocolVersion"],
  [71, "InsufficientSecurity"],
  [80, "InternalError"],
  [86, "InappropriateFallback"],
  [90, "UserCanceled"],
  [109, "MissingExtension"],
  [110, "UnsupportedExtension"],
  [112, "UnrecognisedName"],
  [113, "BadCertificateStatusResponse"],
  [115, "UnknownPSKIdentity"],
  [116, "CertificateRequired"],
  [120, "NoApplicationProtocol"],
]);

/** The name of an alert by its number. */
export function alertName(number: number): string {
  return NAMES.get(number) ?? `Alert${number}`;
}

/** The server has shown a certificate, and cannot sign with its key. */
export function keyNotProven(cause: unknown): WireError {
  const code = "TLS_KEY_NOT_PROVEN";
  return new WireError(
    code,
    `the server does not prove that it holds the key of the certificate that it shows (${code})`,
    { cause },
  );
}

/**
 * An alert in words.
 *
 * @param message What the TLS library says.
 * @returns `undefined`: it is no alert of the server.
 */
export function alertWords(
  message: string,
): { readonly code: string; readonly words: string } | undefined {
  const name = /received fatal alert: (\w+)/.exec(message)?.[1];
  if (name === undefined) return undefined;
  const code = `TLS_ALERT_${name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}`;
  return { code, words: WORDS[name] ?? `the server ended TLS with the alert ${name}` };
}
