/**
 * What is wrong with our certificates and keys, before anything is connected, and with the
 * server's, in words that name the cause. The TLS library alone ignores a key that it cannot
 * read, and calls an expired certificate "unable to verify".
 */

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { messageOf, OptionError, type WireError, wireError } from "../base/errors.ts";
import { TLS_OPTIONS } from "../base/option_table.ts";
import { checkFields, resolveOptions } from "../base/options.ts";
import type { TlsOptions } from "./options.ts";

/** Options whose certificates and keys can be used. */
export interface CheckedTlsOptions extends Omit<TlsOptions, "ca" | "passphrase" | "fingerprints"> {
  readonly handshakeTimeoutMs: number;
  readonly acceptMs: number;
  /** One certificate an entry. */
  readonly ca?: string[];
  /** 64 digits each, upper case. */
  readonly fingerprints?: readonly string[];
  /** When the first certificate of `cert` and its issuers expires. */
  readonly clientCertificateExpiresAtMs: number | undefined;
}

const PEM_BEGIN = /-----BEGIN CERTIFICATE-----/g;
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The first key of a text that may have certificates, parameters and names beside it. */
const PEM_KEY = /-----BEGIN ([A-Z ]*PRIVATE KEY)-----[^]*?-----END \1-----/;
/** Of the name of a protocol (RFC 7301, 3.1). */
const ALPN_BYTES = 255;

/** Refuses an option whose value no message may show. */
function refuse(option: string, rule: string): never {
  throw new OptionError(option, null, rule);
}

/**
 * Checks what can be checked without a server.
 *
 * @throws {OptionError} An option cannot be used; no key stands in the message.
 */
export function checkTlsOptions(options: TlsOptions): CheckedTlsOptions {
  checkFields("tls", options, [TLS_OPTIONS]);
  const given = resolveOptions(TLS_OPTIONS, options, "tls.");
  const { minVersion, maxVersion } = given;
  if (minVersion === "TLSv1.3" && maxVersion === "TLSv1.2") {
    throw new OptionError("tls.minVersion", minVersion, "must not be newer than tls.maxVersion");
  }
  const { ca, fingerprints, passphrase: _, key: __, cert, ...rest } = given;
  if (ca !== undefined && fingerprints !== undefined) {
    refuse(
      "tls.fingerprints",
      "cannot be combined with tls.ca: whoever has issued it, that certificate is trusted",
    );
  }
  const tooLong = given.alpn?.find((name) => new TextEncoder().encode(name).length > ALPN_BYTES);
  if (tooLong !== undefined) {
    throw new OptionError("tls.alpn", tooLong, `must be names of ${ALPN_BYTES} bytes at most`);
  }
  const own = cert === undefined ? undefined : certificatesOf("tls.cert", cert);
  const key = keyOf(given, own);
  return {
    ...rest,
    ...(ca === undefined ? {} : { ca: certificatesOf("tls.ca", ca).map(String) }),
    ...(fingerprints === undefined ? {} : { fingerprints: fingerprints.map(fingerprintOf) }),
    // Nothing else of the text: a library that stumbles over it shows no certificate at all.
    ...(own === undefined ? {} : { cert: own.map(String).join("\n") }),
    ...(key === undefined ? {} : { key }),
    clientCertificateExpiresAtMs: own && firstExpiry(own),
  };
}

/** Kinds and curves of keys that Deno's TLS library signs with. */
const DENO_SIGNS_WITH = /^(rsa|ed25519|prime256v1|secp(384|521)r1)$/;

/**
 * Checks what depends on the TLS library: OpenSSL's, which asks how far the reader is, or Deno's.
 *
 * @throws {OptionError} It cannot do with these.
 */
export function assertUsableBy(
  asksReader: boolean | undefined,
  { maxVersion, key }: CheckedTlsOptions,
): void {
  if (asksReader && maxVersion === "TLSv1.2") {
    const words =
      'must not be TLSv1.2 with confirm "reader": it has no KeyUpdate for the server to answer';
    throw new OptionError("tls.maxVersion", maxVersion, words);
  }
  if (asksReader || key === undefined) return;
  const { asymmetricKeyType = "", asymmetricKeyDetails } = createPrivateKey(key);
  const kind = asymmetricKeyDetails?.namedCurve ?? asymmetricKeyType;
  if (!DENO_SIGNS_WITH.test(kind)) refuse("tls.key", `is of a kind that cannot be used (${kind})`);
}

/** When the first of them expires, in milliseconds since 1970. */
export function firstExpiry(certificates: readonly X509Certificate[]): number {
  return Math.min(...certificates.map(({ validTo }) => Date.parse(validTo)));
}

function certificatesOf(option: string, pem: string): X509Certificate[] {
  const blocks = pem.match(PEM_CERTIFICATE) ?? [];
  const begun = pem.match(PEM_BEGIN)?.length ?? 0;
  if (blocks.length > 0 && blocks.length < begun) {
    refuse(option, `cannot be read: of its ${begun} certificates ${blocks.length} are whole`);
  }
  if (blocks.length === 0) {
    refuse(option, "must be a certificate in PEM: -----BEGIN CERTIFICATE----- and so on");
  }
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      return refuse(
        option,
        `cannot be read: its certificate ${index + 1} is damaged (${messageOf(error)})`,
      );
    }
  });
}

function keyOf(
  { cert, key, passphrase }: TlsOptions,
  own: readonly X509Certificate[] | undefined,
): string | undefined {
  if (key === undefined) {
    if (cert === undefined) return undefined;
    refuse("tls.cert", "needs tls.key, the key that belongs to it");
  }
  if (own === undefined) {
    return refuse("tls.key", "needs tls.cert, the certificate that belongs to it");
  }
  const parsed = parseKey(key, passphrase);
  const [first] = own;
  if (first === undefined || !first.checkPrivateKey(parsed)) {
    const others = own.slice(1).some((certificate) => certificate.checkPrivateKey(parsed));
    refuse(
      "tls.key",
      others
        ? "belongs to another certificate of tls.cert than the first: our own has to come first"
        : `does not belong to tls.cert, the certificate of ${nameOf(first)}`,
    );
  }
  try {
    // What the TLS library cannot read it ignores; this it can.
    return String(parsed.export({ type: "pkcs8", format: "pem" }));
  } catch (error) {
    return refuse("tls.key", `is of a kind that cannot be used (${messageOf(error)})`);
  }
}

function parseKey(key: string, passphrase: string | undefined): KeyObject {
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(key)) {
    refuse("tls.key", "must be a private key in PEM: -----BEGIN PRIVATE KEY----- and so on");
  }
  const [block] = PEM_KEY.exec(key) ?? [];
  if (block === undefined) return refuse("tls.key", "cannot be read: the end of it is missing");
  const encrypted = block.includes("ENCRYPTED");
  if (encrypted && passphrase === undefined) {
    refuse("tls.key", "is encrypted and needs tls.passphrase");
  }
  try {
    return createPrivateKey({
      key: block,
      format: "pem",
      ...(encrypted && passphrase !== undefined ? { passphrase } : {}),
    });
  } catch (error) {
    return refuse(
      "tls.key",
      encrypted
        ? `cannot be decrypted with tls.passphrase (${messageOf(error)})`
        : `cannot be read (${messageOf(error)})`,
    );
  }
}

function fingerprintOf(text: string): string {
  const digits = text.replaceAll(":", "").toUpperCase();
  if (/^[0-9A-F]{64}$/.test(digits)) return digits;
  throw new OptionError(
    "tls.fingerprints",
    text,
    "must be SHA-256 fingerprints of 64 hexadecimal digits " +
      "(openssl x509 -noout -fingerprint -sha256)",
  );
}

/**
 * Whether a server's certificate is one of those pinned.
 *
 * @throws {WireError} It is another; the message shows its fingerprint.
 */
export function assertPinned(chain: readonly X509Certificate[], pins: readonly string[]): void {
  const [shown] = chain;
  if (shown !== undefined && pins.includes(shown.fingerprint256.replaceAll(":", ""))) return;
  if (shown === undefined) throw wireError("TLS_FINGERPRINT", "the server showed no certificate");
  const { subjectAltName = "no names", issuer, validFrom, validTo, fingerprint256 } = shown;
  throw wireError(
    "TLS_FINGERPRINT",
    `the server shows another certificate than those of tls.fingerprints: ${nameOf(shown)} ` +
      `(${subjectAltName}), issued by ${oneLine(issuer)}, valid from ${day(validFrom)} to ` +
      `${day(validTo)}, SHA-256 ${fingerprint256}`,
  );
}

/**
 * Why a server's certificates were refused.
 *
 * @param chain What the server shows, its own first.
 * @param cause What the TLS library said.
 */
export function refusalOf(
  chain: readonly X509Certificate[],
  { expectedName, ca }: { readonly expectedName: string; readonly ca?: string[] },
  wallMs: number,
  cause: WireError,
): WireError {
  const [own] = chain;
  if (own === undefined) return cause;
  const say = (code: string, words: string) => wireError(code, words, cause);
  const which = (certificate: X509Certificate) =>
    `${certificate === own ? "the server's" : "its issuer's"} certificate, of ${
      nameOf(certificate)
    },`;
  for (const certificate of chain) {
    const { validFrom, validTo } = certificate;
    if (wallMs > Date.parse(validTo)) {
      const words = `${which(certificate)} expired on ${day(validTo)}: it has to be renewed`;
      return say("CERT_HAS_EXPIRED", words);
    }
    if (wallMs < Date.parse(validFrom)) {
      const words = `${which(certificate)} is not valid before ${day(validFrom)}; this host's ` +
        `clock says ${day(wallMs)}: is that right?`;
      return say("CERT_NOT_YET_VALID", words);
    }
  }
  const trusted = (ca ?? []).map((pem) => new X509Certificate(pem));
  const issuer = chain.at(-1)?.issuer ?? "";
  const named = trusted.filter(({ subject }) => subject === issuer || subject === own.issuer);
  const stale = named.find(({ validTo }) => wallMs > Date.parse(validTo));
  if (stale !== undefined) {
    const words = `the certificate of ${nameOf(stale)} in tls.ca expired on ${day(stale.validTo)}`;
    return say("CA_HAS_EXPIRED", words);
  }
  const match = isIP(expectedName) === 0 ? own.checkHost(expectedName) : own.checkIP(expectedName);
  const vouched = ca === undefined || named.length > 0 || cause.code.includes("ALTNAME");
  if (match === undefined && vouched) {
    const names = own.subjectAltName ?? `nobody by name (subject ${nameOf(own)})`;
    return say(
      "HOSTNAME_MISMATCH",
      `the server's certificate is for ${names}, not for ${expectedName}: set tls.serverName to ` +
        "a name of it if this is the right server",
    );
  }
  // OpenSSL names the very fault, unless it is one of trust.
  const ofTrust = /issuer|self.signed|first certificate|signature failure/.test(cause.message);
  if (cause.code === "CERT_VERIFY_FAILED" && !ofTrust) return cause;
  if (named.length > 0) {
    // A root beside its own says nothing by its signature.
    const issued = chain.filter((it) => it === own || it.issuer !== it.subject);
    return named.some((by) => issued.some((it) => it.issuer === by.subject && maySign(by, it)))
      ? say(
        "CERT_VERIFY_FAILED",
        `${which(own)} was issued by one of tls.ca; not taken is its use (extendedKeyUsage, ` +
          "CA:TRUE, nameConstraints), or its kind of key or signature",
      )
      : say(
        "CERT_SIGNATURE_FAILURE",
        `${which(own)} names ${oneLine(issuer)} as its issuer, and was not signed by ` +
          "the one of that name in tls.ca, or in a way unknown here (RSA-PSS, Ed448)",
      );
  }
  const where = ca === undefined ? "the certificates that Deno trusts" : "tls.ca";
  if (own.issuer === own.subject) {
    return say(
      "DEPTH_ZERO_SELF_SIGNED_CERT",
      `${which(own)} is signed by itself and is not among ${where}: trust it by ` +
        `tls.fingerprints, SHA-256 ${own.fingerprint256}`,
    );
  }
  return say(
    "UNABLE_TO_GET_ISSUER_CERT",
    `${which(own)} was issued by ${oneLine(issuer)}, who is not among ${where}` +
      (chain.length > 1 ? "" : ", or the server leaves out one between them"),
  );
}

/** Deno cannot check each kind of signature: to some it says no, at some it throws. */
function maySign(issuer: X509Certificate, certificate: X509Certificate): boolean {
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    return true;
  }
}

function nameOf(certificate: X509Certificate | undefined): string {
  if (certificate === undefined) return "nobody";
  const { subject, subjectAltName } = certificate;
  return oneLine(subject) || subjectAltName || "nobody by name";
}

/** A distinguished name has a line an attribute. */
function oneLine(name: string): string {
  return name.trim().replaceAll("\n", ", ");
}

/** `"2026-11-26 21:49 UTC"` */
function day(date: string | number): string {
  return `${new Date(date).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
