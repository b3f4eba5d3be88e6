/**
 * Stands between a client and a TLS server, and knows of every byte of ciphertext when it
 * has reached this host's kernel. It follows the records by itself.
 */

import { setTimeout as delay } from "node:timers/promises";
import { connectionsOf } from "../../lab/connections_of.ts";
import { duplicateDescriptor } from "../../src/kernel/descriptor.ts";
import { IPPROTO_TCP, TCP_INFO } from "../../src/kernel/constants.ts";
import { closeDescriptor, libc } from "../../src/kernel/libc.ts";
import { TCP_INFO_BYTES } from "../../src/kernel/tcp_info.ts";
import { resetBy } from "../kernel/helpers.ts";

/** `tcpi_bytes_received` in struct tcp_info; include/uapi/linux/tcp.h. */
const BYTES_RECEIVED_OFFSET = 128;

/** One connection through a {@linkcode CipherRelay}. */
export class RelayedConnection {
  readonly #client: Deno.TcpConn;
  readonly #fd: number;
  readonly #lateMs: number;
  readonly #sent: number[] = [];
  #held: PromiseWithResolvers<void> | undefined;
  #flipNext = false;
  #server: Deno.TcpConn | undefined;
  #open = true;

  constructor(client: Deno.TcpConn, lateMs: number) {
    // A client that has left already has none: its connection only ends.
    const found = duplicateDescriptor(client, 0);
    this.#client = client;
    this.#lateMs = lateMs;
    this.#fd = found.kind === "found" ? found.fd : -1;
  }

  /** Bytes of the client that this host's kernel has received, whether read or not. */
  get arrivedBytes(): number {
    const info = new Uint8Array(TCP_INFO_BYTES);
    const length = new Uint32Array([TCP_INFO_BYTES]);
    const code = libc().getsockopt(this.#fd, IPPROTO_TCP, TCP_INFO, info, length);
    if (code !== 0) throw new Error("TCP_INFO was refused");
    return Number(new DataView(info.buffer).getBigUint64(BYTES_RECEIVED_OFFSET, true));
  }

  /** Whatever the client has sent and was read: type, payload and end of each record. */
  get records(): readonly { type: number; payload: number; end: number }[] {
    const records = [];
    const bytes = this.#sent;
    for (let at = 0; at + 5 <= bytes.length;) {
      const payload = (bytes[at + 3] ?? 0) * 256 + (bytes[at + 4] ?? 0);
      const end = at + 5 + payload;
      if (end > bytes.length) break;
      records.push({ type: bytes[at] ?? 0, payload, end });
      at = end;
    }
    return records;
  }

  /** Reads no more until {@linkcode release}. */
  hold(): void {
    this.#held ??= Promise.withResolvers();
  }

  release(): void {
    this.#held?.resolve();
    this.#held = undefined;
  }

  /** Changes a bit of the next bytes that pass to the server. */
  flipBit(): void {
    this.#flipNext = true;
  }

  /**
   * Ends it towards the client, as the kernel does for a program that was killed.
   *
   * @returns How many bytes of the client had arrived by then.
   */
  reset(): number {
    const { arrivedBytes } = this;
    if (this.#open) resetBy(this.#client);
    this.#open = false;
    return arrivedBytes;
  }

  /** The test is over. */
  end(): void {
    this.release();
    if (this.#open) this.#client.close();
    this.#open = false;
    // A server that takes one connection after the other may never come to this one.
    closed(this.#server);
  }

  /** A FIN without TLS's close_notify, as it is left by a program that has read everything. */
  async fin(): Promise<void> {
    await this.#client.closeWrite();
  }

  /** @returns Resolves when both directions have ended. */
  async run(server: Deno.TcpConn): Promise<void> {
    this.#server = server;
    const up = async () => {
      const buffer = new Uint8Array(16 * 1024);
      for (;;) {
        await this.#held?.promise;
        const count = await this.#client.read(buffer).catch(() => undefined);
        if (count === null) return await server.closeWrite();
        // The client has reset it: nobody waits for what the server has to say.
        if (count === undefined) return server.close();
        const bytes = buffer.slice(0, count);
        // A judge takes his time: that is what is tested here.
        if (this.#lateMs > 0 && this.#sent.length > 0) await delay(this.#lateMs);
        for (const byte of bytes) this.#sent.push(byte);
        if (this.#flipNext) bytes[count - 1] = (bytes[count - 1] ?? 0) ^ 1;
        this.#flipNext = false;
        for (let at = 0; at < count;) at += await server.write(bytes.subarray(at));
      }
    };
    const down = async () => {
      const buffer = new Uint8Array(16 * 1024);
      for (;;) {
        const count = await server.read(buffer);
        if (count === null) return await this.#client.closeWrite();
        for (let at = 0; at < count;) at += await this.#client.write(buffer.subarray(at, count));
      }
    };
    // Where the server refuses what it is sent, its last words have to reach the client.
    await Promise.allSettled([up(), down()]);
    if (this.#fd >= 0) closeDescriptor(this.#fd);
    closed(server);
    if (this.#open) this.#client.close();
    this.#open = false;
  }
}

/** Closes a connection that may be closed already. */
function closed(connection: Deno.TcpConn | undefined): void {
  try {
    connection?.close();
  } catch {
    // It was before.
  }
}

/** Relays every connection to a server's port. */
export class CipherRelay implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #serving: Promise<void>;
  readonly #connections: RelayedConnection[] = [];
  #latest = Promise.withResolvers<RelayedConnection>();

  /**
   * @param serverPort Where the server listens.
   * @param lateMs How long everything waits that a client sends behind its ClientHello.
   */
  constructor(serverPort: number, lateMs = 0) {
    this.#serving = (async () => {
      const running: Promise<void>[] = [];
      for await (const client of connectionsOf(this.#listener)) {
        const server = await Deno.connect({ hostname: "127.0.0.1", port: serverPort });
        const connection = new RelayedConnection(client, lateMs);
        running.push(connection.run(server));
        this.#connections.push(connection);
        this.#latest.resolve(connection);
      }
      await Promise.all(running);
    })();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** The next connection. */
  async next(): Promise<RelayedConnection> {
    const connection = await this.#latest.promise;
    this.#latest = Promise.withResolvers();
    return connection;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) {
      connection.end();
    }
    await this.#serving;
  }
}
