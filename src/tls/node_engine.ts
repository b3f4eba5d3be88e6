/**
 * The TLS library that the runtime brings: `node:tls` over a stream of our own, through
 * which every byte of ciphertext passes. The one file that knows it.
 *
 * @module
 */

import { Duplex } from "node:stream";
import tls from "node:tls";
import type { EngineEvents, EngineOptions, Handshake, TlsEngine } from "./engine.ts";

/** One TLS connection without a transport, by `node:tls`. */
class NodeEngine implements TlsEngine {
  readonly #events: EngineEvents;
  readonly #transport: Duplex;
  readonly #socket: tls.TLSSocket;

  /**
   * Begins the handshake.
   *
   * @param options How.
   * @param events Told what comes of it.
   */
  constructor(options: EngineOptions, events: EngineEvents) {
    this.#events = events;
    this.#transport = new Duplex({
      read() {},
      write: (chunk: Uint8Array, _encoding, done) => {
        events.send(chunk).then(() => done(), (error) => done(error)).finally(events.sent);
      },
      // Nothing may wait here: what is written is counted.
      writableHighWaterMark: 1,
      allowHalfOpen: true,
    });
    this.#transport.on("error", (error) => events.failed(error));
    const { ca, cert, key, alpn, minVersion, maxVersion, expectedName, verified } = options;
    // What the types leave out: the peer's close_notify is not yet ours.
    const connect: tls.ConnectionOptions & { readonly allowHalfOpen: boolean } = {
      socket: this.#transport,
      host: expectedName,
      // Addresses have no place in SNI (RFC 6066, 3).
      servername: /^[\d.]+$|:/.test(expectedName) ? "" : expectedName,
      // Said even where it is the default: an environment variable switches that off.
      rejectUnauthorized: verified,
      minVersion: minVersion ?? "TLSv1.2",
      maxVersion: maxVersion ?? "TLSv1.3",
      allowHalfOpen: true,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(alpn === undefined ? {} : { ALPNProtocols: [...alpn] }),
    };
    this.#socket = tls.connect(connect);
    this.#socket.on("error", (error) => events.failed(error));
    this.#socket.on("end", () => events.closed());
    this.#socket.on("data", (plaintext: Uint8Array) => events.received(plaintext));
  }

  /** Resolves once both sides have agreed; failures go to `failed`, and leave it pending. */
  handshake(): Promise<Handshake> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      socket.once("secureConnect", () => {
        try {
          resolve({
            version: socket.getProtocol() ?? "unknown",
            cipherSuite: socket.getCipher().standardName ?? "unknown",
            alpn: socket.alpnProtocol === false ? undefined : socket.alpnProtocol ?? undefined,
            chain: chainOf(socket.getPeerCertificate(true)),
          });
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  /** Whether the library itself calls the peer verified. */
  get authorized(): boolean {
    return this.#socket.authorized === true;
  }

  /** Whether ciphertext waits to be sent. */
  get sending(): boolean {
    return this.#transport.writableLength > 0;
  }

  /** Ciphertext that came in. */
  feed(ciphertext: Uint8Array): void {
    this.#transport.push(ciphertext);
  }

  /** Plaintext to send. That it has gone is told by its records, never by a callback. */
  write(plaintext: Uint8Array): void {
    this.#socket.write(plaintext, (error) => {
      if (error !== undefined && error !== null) this.#events.failed(error);
    });
  }

  /** Sends close_notify. */
  close(): void {
    this.#socket.end();
  }

  /** Forgets everything. */
  destroy(): void {
    this.#socket.destroy();
    this.#transport.destroy();
  }
}

/** Makes engines of the TLS library that the runtime brings. */
export function nodeEngine(options: EngineOptions, events: EngineEvents): TlsEngine {
  return new NodeEngine(options, events);
}

/** A root is its own issuer in this library's view. */
function chainOf(first: tls.DetailedPeerCertificate | undefined): Uint8Array[] {
  const chain: Uint8Array[] = [];
  const seen = new Set<string>();
  for (let at = first; at?.raw !== undefined; at = at.issuerCertificate) {
    if (seen.has(at.fingerprint256)) break;
    seen.add(at.fingerprint256);
    chain.push(new Uint8Array(at.raw));
  }
  return chain;
}
