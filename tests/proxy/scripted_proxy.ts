/**
 * Proxies that say what a test tells them, and what a dialer makes of that.
 *
 * @module
 */

import { systemClock } from "../../src/base/clock.ts";
import { proxyOf } from "../../src/base/via.ts";
import type { TcpWire } from "../../src/kernel/tcp_wire.ts";
import { proxyDialer } from "../../src/proxy/dialer.ts";
import { patience } from "../kernel/helpers.ts";
import { ScriptedServer, type ServedConnection } from "../support/scripted_server.ts";

/** What a proxy is asked, and what it is to connect to. */
export interface Asked {
  /** `"socks5"`, or `"http"`; with credentials: `"socks5://user:secret@"`. */
  readonly scheme: string;
  readonly hostname?: string;
  readonly port?: number;
  readonly handshakeTimeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly onHandshake?: (withinMs: number) => void;
}

/** A proxy that does this with each connection. */
export class ScriptedProxy implements AsyncDisposable {
  readonly #server: ScriptedServer = new ScriptedServer().start();
  readonly #serving: Promise<void>;

  /** @param handle What it does. */
  constructor(handle: (connection: ServedConnection) => Promise<void>) {
    this.#serving = this.#server.serve((connection) => handle(connection).catch(() => {}));
  }

  /** Its port. */
  get port(): number {
    return Number(new URL(this.#server.remote).port);
  }

  /** Whom it serves now. */
  get connections(): number {
    return this.#server.connections.size;
  }

  /** Its URL. */
  url(scheme: string): string {
    return `${scheme.includes("://") ? scheme : `${scheme}://`}127.0.0.1:${this.port}`;
  }

  /** Dials through it. */
  dial(asked: Asked): Promise<TcpWire> {
    const { scheme, hostname = "legacy", port = 4000, handshakeTimeoutMs = 20_000 } = asked;
    return proxyDialer({
      proxy: proxyOf({ url: this.url(scheme), handshakeTimeoutMs }),
      remote: { hostname, port },
      tcp: {},
      clock: systemClock,
    }).dial(asked.signal ?? patience(), undefined, asked.onHandshake);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await this.#serving;
  }
}

/** Reads exactly so many bytes of a client. */
export async function readExactly(
  connection: ServedConnection,
  count: number,
): Promise<number[]> {
  const bytes: number[] = [];
  while (bytes.length < count) {
    const part = await connection.readBytes(count - bytes.length);
    if (part.length === 0) throw new Error("the client has ended");
    bytes.push(...part);
  }
  return bytes;
}
