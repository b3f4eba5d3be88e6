/** What a server says when it refuses (RFC 8446, 6.2), in words that say what to do. */

import { type WireError, wireError } from "../base/errors.ts";

/**
 * The alerts that end a connection: the number on the wire (RFC 8446, B.2), the name that the
 * TLS libraries have for it, and what to do.
 */
const ALERTS: readonly (readonly [number: number, name: string, words?: string])[] = [
  [10, "UnexpectedMessage"],
  [20, "BadRecordMac", "a record was damaged on the way to the server"],
  [22, "RecordOverflow"],
  [
    40,
    "HandshakeFailure",
    "the server has no cipher suite in common with us, or (in TLS 1.2) wants a " +
    "certificate of ours, which tls.cert and tls.key give it",
  ],
  [42, "BadCertificate", "the server cannot use our certificate"],
  [
    43,
    "UnsupportedCertificate",
    "the server cannot use a certificate of this kind, or for this use",
  ],
  [44, "CertificateRevoked", "our certificate was revoked, says the server"],
  [
    45,
    "CertificateExpired",
    "our certificate has expired, says the server: tls.cert has to be renewed",
  ],
  [46, "CertificateUnknown", "the server does not take our certificate, and does not say why"],
  [47, "IllegalParameter"],
  [
    48,
    "UnknownCA",
    "the server does not trust who issued our certificate, or misses one between them " +
    "in tls.cert",
  ],
  [49, "AccessDenied", "the server knows our certificate and lets it do nothing"],
  [50, "DecodeError"],
  [
    51,
    "DecryptError",
    "the server could not check a signature of ours: does it know our certificate?",
  ],
  [
    70,
    "ProtocolVersion",
    "the server speaks no version of TLS from tls.minVersion to tls.maxVersion",
  ],
  [71, "InsufficientSecurity", "the server wants stronger cipher suites than ours"],
  [80, "InternalError"],
  [90, "UserCanceled"],
  [109, "MissingExtension"],
  [110, "UnsupportedExtension"],
  [112, "UnrecognisedName", "the server knows no such name: set tls.serverName"],
  [116, "CertificateRequired", "the server wants a certificate of ours: set tls.cert and tls.key"],
  [120, "NoApplicationProtocol", "the server takes none of the protocols of tls.alpn"],
];

export function alertName(number: number): string {
  return ALERTS.find(([known]) => known === number)?.[1] ?? `Alert${number}`;
}

/** The server has shown a certificate, and does not sign with its key, as far as is seen here. */
export function keyNotProven(cause: unknown): WireError {
  const words = "the server does not prove that it holds the key of the certificate that it " +
    "shows, or that cannot be read here (RSA below 2048 bits, an unknown critical extension)";
  return wireError("TLS_KEY_NOT_PROVEN", words, cause);
}

/** What an alert means where more is known of the connection than the alert alone says. */
const RENEGOTIATION = "the server wants to agree anew on a connection that is up (renegotiation " +
  "of TLS 1.2), which is not done here: let it speak TLS 1.3";
const NOT_THIS_KIND = "takes no signature of the kind that tls.key makes";
const WORDS_WITH_CERTIFICATE: ReadonlyMap<string, string> = new Map([
  [
    "HandshakeFailure",
    `the server has no cipher suite in common with us, or (in TLS 1.2) ${NOT_THIS_KIND}`,
  ],
  ["CertificateRequired", `the server wants a certificate of ours, and ${NOT_THIS_KIND}`],
]);

/** What the TLS library says of an alert, in words; `undefined`: it is no alert of the server. */
export function alertWords(
  message: string,
  { isUp = false, hasCertificate = false } = {},
): { readonly code: string; readonly words: string } | undefined {
  const name = /received fatal alert: (\w+)/.exec(message)?.[1];
  if (name === undefined) return undefined;
  const code = `TLS_ALERT_${name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}`;
  const words = isUp && name === "HandshakeFailure"
    ? RENEGOTIATION
    : (hasCertificate ? WORDS_WITH_CERTIFICATE.get(name) : undefined) ??
      ALERTS.find(([, known]) => known === name)?.[2];
  return { code, words: words ?? `the server ended TLS with the alert ${name}` };
}
