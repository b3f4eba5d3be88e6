/**
 * TLS servers in this process, over Deno's own implementation.
 */

import { pem } from "./helpers.ts";

/** Reads everything that each connection sends. */
export class DecryptingServer implements AsyncDisposable {
  readonly #listener: Deno.TlsListener;
  readonly #serving: Promise<void>;
  readonly #open = new Set<Deno.TlsConn>();
  /** How connections have ended. */
  readonly ends: ("close_notify" | "unclean")[] = [];
  /** What was read, one entry a connection. */
  readonly read: Uint8Array[][] = [];

  /** @param certificate Which of `certificates/` it shows. */
  constructor(certificate = "server") {
    const listener = Deno.listenTls({
      hostname: "127.0.0.1",
      port: 0,
      cert: pem(`${certificate}.pem`),
      key: pem(`${certificate}.key`),
    });
    this.#listener = listener;
    this.#serving = (async () => {
      const running: Promise<void>[] = [];
      for (;;) {
        try {
          running.push(this.#serve(await listener.accept()));
        } catch (error) {
          if (error instanceof Deno.errors.BadResource) break;
          if (error instanceof Deno.errors.Interrupted) break;
        }
      }
      await Promise.all(running);
    })();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** How many bytes a connection has brought. */
  bytesOf(connection: number): number {
    return (this.read[connection] ?? []).reduce((sum, { length }) => sum + length, 0);
  }

  /** Everything, in the order of the connections, as text. */
  get text(): string {
    const decoder = new TextDecoder();
    return this.read.flat().map((part) => decoder.decode(part, { stream: true })).join("");
  }

  async #serve(conn: Deno.TlsConn): Promise<void> {
    const parts: Uint8Array[] = [];
    this.read.push(parts);
    this.#open.add(conn);
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (;;) {
        const count = await conn.read(buffer);
        if (count === null) {
          this.ends.push("close_notify");
          break;
        }
        parts.push(buffer.slice(0, count));
      }
    } catch {
      this.ends.push("unclean");
    }
    this.#open.delete(conn);
    try {
      conn.close();
    } catch {
      // Disposed of meanwhile.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const conn of this.#open) conn.close();
    await this.#serving;
  }
}
