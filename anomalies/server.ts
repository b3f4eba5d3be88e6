/**
 * A server that writes down what every connection brings, and may be killed once.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { connectionsOf } from "../lab/connections_of.ts";
import { duplicateDescriptor } from "../src/kernel/descriptor.ts";
import { closeDescriptor } from "../src/kernel/libc.ts";
import { resetConnection } from "../src/kernel/tcp_wire.ts";

/** How long nobody listens after the kill; below the hold, and long enough for a refusal. */
const DOWN_MS = 100;

/** Reads everything at once. */
export class RecordingServer implements AsyncDisposable {
  readonly #hostname: string;
  #listener: Deno.TcpListener;
  #serving: Promise<void>;
  readonly #reading = new Set<Promise<void>>();
  readonly #texts: string[] = [];
  #dies: boolean;
  #over = false;

  /**
   * @param hostname The address to listen at.
   * @param dies Whether the first connection that brings anything is reset, and
   *   nobody listens for a moment.
   */
  constructor(hostname: string, dies: boolean) {
    this.#hostname = hostname;
    this.#dies = dies;
    this.#listener = Deno.listen({ hostname, port: 0 });
    this.#serving = this.#serve();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** What each connection has brought, once all have come to their end. */
  async texts(): Promise<readonly string[]> {
    while (this.#reading.size > 0) await Promise.all(this.#reading);
    return this.#texts;
  }

  async #serve(): Promise<void> {
    for await (const conn of connectionsOf(this.#listener)) {
      const reading = this.#read(conn).finally(() => this.#reading.delete(reading));
      this.#reading.add(reading);
    }
  }

  async #read(conn: Deno.TcpConn): Promise<void> {
    const index = this.#texts.push("") - 1;
    const buffer = new Uint8Array(65_536);
    try {
      for (let count; (count = await conn.read(buffer)) !== null;) {
        this.#texts[index] += new TextDecoder().decode(buffer.subarray(0, count));
        if (this.#dies) return await this.#die(conn);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
    conn.close();
  }

  /** As the kernel of a killed server does. */
  async #die(conn: Deno.TcpConn): Promise<void> {
    this.#dies = false;
    const { port } = this;
    this.#listener.close();
    const found = duplicateDescriptor(conn, 0);
    if (found.kind !== "found" || !resetConnection(found.fd)) throw new Error("not reset");
    closeDescriptor(found.fd);
    conn.close();
    await delay(DOWN_MS);
    if (this.#over) return;
    this.#listener = Deno.listen({ hostname: this.#hostname, port });
    this.#serving = this.#serve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    this.#listener.close();
    await this.#serving;
    await this.texts();
  }
}
