/**
 * The TLS library that the runtime brings: `node:tls` over a stream of our own, through
 * which every byte of ciphertext passes.
 */

import { Duplex } from "node:stream";
import tls from "node:tls";
import {
  type EngineEvents,
  type EngineOptions,
  type Handshake,
  hasSni,
  type TlsEngine,
} from "./engine.ts";

class NodeEngine implements TlsEngine {
  readonly #events: EngineEvents;
  readonly #transport: Duplex;
  readonly #socket: tls.TLSSocket;

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
      servername: hasSni(expectedName) ? expectedName : "",
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

  get authorized(): boolean {
    return this.#socket.authorized === true;
  }

  get sending(): boolean {
    return this.#transport.writableLength > 0;
  }

  feed(ciphertext: Uint8Array): void {
    this.#transport.push(ciphertext);
  }

  write(plaintext: Uint8Array): void {
    this.#socket.write(plaintext, (error) => {
      if (error !== undefined && error !== null) this.#events.failed(error);
    });
  }

  close(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#transport.destroy();
  }
}

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
