/** The narrow interface that every TLS library stands behind. */

import { isIP } from "node:net";
import type { CheckedTlsOptions } from "./certificates.ts";

/** What an engine tells. */
export interface EngineEvents {
  /** Ciphertext to send; no more comes before the promise resolves. */
  send(ciphertext: Uint8Array): Promise<void>;
  /** `TlsEngine.sending` may be false now. */
  sent(): void;
  /** Plaintext that came in. */
  received(plaintext: Uint8Array): void;
  /**
   * The peer has changed the key that it sends with; told by an engine that can tell. Where it
   * is `asking` us to do the same, it is no answer to us.
   */
  keyUpdated(asking: boolean): void;
  /** The peer's close_notify. */
  closed(): void;
  /**
   * It cannot go on. An alert of the peer is an error that says `received fatal alert: NAME`,
   * by the names of `alerts.ts`; whatever else has a name has it in `code`.
   */
  failed(error: unknown): void;
}

/** What was agreed upon. */
export interface Handshake {
  /** `"TLSv1.3"` or `"TLSv1.2"`. */
  readonly version: string;
  /** By IANA's name. */
  readonly cipherSuite: string;
  /** One of `alpn`; undefined: none. */
  readonly alpn: string | undefined;
  /** The server's certificates in DER, its own first; more only where they were verified. */
  readonly chain: readonly Uint8Array[];
}

/** How a handshake is made. */
export interface EngineOptions extends CheckedTlsOptions {
  /** Whom the certificate has to be for: a name or an address. */
  readonly expectedName: string;
  /** Whether the chain is verified; where not, nothing may be sent before the caller has. */
  readonly verified: boolean;
}

/** One TLS connection without a transport. Whoever makes it begins the handshake. */
export interface TlsEngine {
  /** Resolves once both sides have agreed; failures go to `failed`, and leave it pending. */
  handshake(): Promise<Handshake>;
  /** Whether the library itself calls the peer verified. */
  readonly authorized: boolean;
  /** Whether ciphertext waits to be sent. */
  readonly sending: boolean;
  /** Ciphertext that came in. */
  feed(ciphertext: Uint8Array): void;
  /** Plaintext to send. That it has gone is told by its records, never by a callback. */
  write(plaintext: Uint8Array): void;
  /**
   * Sends so many KeyUpdates, behind everything that was written, each of which asks the
   * peer for one in return (RFC 8446, 4.6.3). Left out by an engine that cannot.
   */
  askForKeyUpdates?(count: number): void;
  /** Sends close_notify. */
  close(): void;
  /** Forgets everything. */
  destroy(): void;
}

/** Whether a server is told this name of its own: addresses have no place in SNI (RFC 6066, 3). */
export function hasSni(expectedName: string): boolean {
  return isIP(expectedName) === 0;
}

/**
 * A host as certificates name it: the zone of a link-local address means something on this host
 * alone, and the dot that ends a whole name is left out (RFC 6066, 3).
 */
export function nameOnCertificates(hostname: string): string {
  return hostname.includes(":") ? hostname.replace(/%.*$/, "") : hostname.replace(/(?<=.)\.$/, "");
}

export type EngineFactory = (options: EngineOptions, events: EngineEvents) => TlsEngine;
