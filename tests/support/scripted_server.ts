/**
 * Servers on loopback for a sender to deliver to.
 *
 * @module
 */

import { connectionsOf } from "../../lab/connections_of.ts";
import { within } from "./until.ts";

/** A TCP server that does what a test tells it, connection by connection. */
export class ScriptedServer implements AsyncDisposable {
  #listener: Deno.TcpListener | undefined;
  #port: number;
  readonly #accepted: ServedConnection[] = [];
  readonly #open = new Set<ServedConnection>();
  readonly #over = Promise.withResolvers<undefined>();
  #news = Promise.withResolvers<void>();

  /** @param port Where to listen, instead of at a free port. */
  constructor(port = 0) {
    this.#port = port;
  }

  /** A port that refuses connections, for now. */
  static freePort(): number {
    using listener = listenAnywhere();
    return listener.addr.port;
  }

  /** Starts listening on loopback; on the port of before after a {@linkcode stop}. */
  start(): this {
    const listener = this.#port === 0
      ? listenAnywhere()
      : Deno.listen({ hostname: "127.0.0.1", port: this.#port });
    this.#listener = listener;
    this.#port = listener.addr.port;
    (async () => {
      for await (const conn of connectionsOf(listener)) {
        const connection = new ServedConnection(conn, () => this.#open.delete(connection));
        this.#open.add(connection);
        this.#accepted.push(connection);
        this.#news.resolve();
        this.#news = Promise.withResolvers();
      }
    })();
    return this;
  }

  /** Refuses new connections. */
  stop(): void {
    this.#listener?.close();
    this.#listener = undefined;
  }

  get remote(): string {
    return `tcp://127.0.0.1:${this.#port}`;
  }

  /** Connections open now. */
  get connections(): ReadonlySet<ServedConnection> {
    return this.#open;
  }

  /** The next connection that nobody has asked for yet. Fails when none comes. */
  async accept(): Promise<ServedConnection> {
    const connection = await within("a connection comes", this.#next());
    if (connection === undefined) throw new Error("the server was put away");
    return connection;
  }

  /** Does this with every further connection, side by side, until the server is put away. */
  async serve(handle: (connection: ServedConnection) => void | Promise<void>): Promise<void> {
    const handling: (void | Promise<void>)[] = [];
    for (;;) {
      const connection = await this.#next();
      if (connection === undefined) break;
      handling.push(handle(connection));
    }
    await Promise.all(handling);
  }

  /** Reads everything from every connection, each into a text of its own. */
  readAll(): string[] {
    const texts: string[] = [];
    this.serve((connection) => {
      const index = texts.push("") - 1;
      return connection.readToEnd((text) => texts[index] += text);
    });
    return texts;
  }

  /** The next connection; `undefined`: there will be none, the test is over. */
  async #next(): Promise<ServedConnection | undefined> {
    for (;;) {
      const connection = this.#accepted.shift();
      if (connection !== undefined) return connection;
      const over = await Promise.race([this.#news.promise.then(() => "news"), this.#over.promise]);
      if (over === undefined) return undefined;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    this.#over.resolve(undefined);
    for (const connection of this.#open) connection.close();
    return Promise.resolve();
  }
}

/**
 * Listens at a port that is free: none of those that the kernel gives of its own accord to whoever
 * listens or connects (32768 and above). One of them that is left for a while is soon somebody
 * else's, and then it does not refuse connections, or is not had back.
 */
function listenAnywhere(): Deno.TcpListener {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    try {
      return Deno.listen({ hostname: "127.0.0.1", port });
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

/** One accepted connection. Nothing is read unless told. */
export class ServedConnection {
  readonly #conn: Deno.TcpConn;
  readonly #onClose: () => void;
  readonly #buffer = new Uint8Array(64 * 1024);
  #closed = false;

  /** @param onClose Told once, when this side closes. */
  constructor(conn: Deno.TcpConn, onClose: () => void) {
    this.#conn = conn;
    this.#onClose = onClose;
  }

  /** One read; empty at the end. Valid until the next one. */
  async readBytes(maxBytes = this.#buffer.length): Promise<Uint8Array> {
    const readBytes = await this.#conn.read(this.#buffer.subarray(0, maxBytes)).catch(() => null);
    return this.#buffer.subarray(0, readBytes ?? 0);
  }

  /** One read; empty at the end. */
  async read(maxBytes?: number): Promise<string> {
    return new TextDecoder().decode(await this.readBytes(maxBytes));
  }

  /** Reads until so many bytes have come, and drops them. */
  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) {
      const { length } = await within(`${left} bytes more are read`, this.readBytes());
      if (length === 0) throw new Error(`the connection ended ${left} bytes before the end`);
      left -= length;
    }
  }

  /** Reads until `text` has come. */
  async readUntil(text: string): Promise<string> {
    let all = "";
    while (!all.includes(text)) {
      const part = await within(`${JSON.stringify(text)} is read`, this.read());
      if (part === "") throw new Error(`the connection ended before ${JSON.stringify(text)}`);
      all += part;
    }
    return all;
  }

  /** Reads until the end, then closes. */
  async readToEnd(onText: (text: string) => void = () => {}): Promise<void> {
    for (let part = await this.read(); part !== ""; part = await this.read()) onText(part);
    this.close();
  }

  async write(text: string | Uint8Array): Promise<void> {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    for (let offset = 0; offset < bytes.length;) {
      offset += await this.#conn.write(bytes.subarray(offset));
    }
  }

  /** Reads to the end. Returns what that was: `"FIN"`, or the error's name. */
  async endedBy(): Promise<string> {
    try {
      while (await this.#conn.read(this.#buffer) !== null) { /* What comes is not looked at. */ }
      return "FIN";
    } catch (error) {
      return error instanceof Error ? error.name : String(error);
    }
  }

  /** Sends the FIN, goes on reading. */
  halfClose(): Promise<void> {
    return this.#conn.closeWrite();
  }

  /** Closes: a FIN if everything was read, a reset if not (RFC 1122, 4.2.2.13). */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose();
    this.#conn.close();
  }
}

/** A server that reads everything at once, and closes when the sender does. */
export class ReadingServer implements AsyncDisposable {
  readonly #server: ScriptedServer;
  readonly #serving: Promise<void>;
  /** What was read, over all connections. */
  readonly bytes: number[] = [];

  /**
   * @param options `port`: where to listen, instead of at a free port; `greeting`: what
   *   every connection is told first.
   */
  constructor(options: { readonly port?: number; readonly greeting?: string } = {}) {
    this.#server = new ScriptedServer(options.port).start();
    this.#serving = this.#server.serve(async (connection) => {
      // A sender that has left already is not greeted.
      await connection.write(options.greeting ?? "").catch(() => {});
      for (;;) {
        const part = await connection.readBytes();
        if (part.length === 0) return connection.close();
        for (const byte of part) this.bytes.push(byte);
      }
    });
  }

  get remote(): string {
    return this.#server.remote;
  }

  /** How many connections are open now. */
  get connections(): number {
    return this.#server.connections.size;
  }

  /** What was read, as text. */
  get text(): string {
    return new TextDecoder().decode(new Uint8Array(this.bytes));
  }

  /** Says something to whoever is connected. */
  async say(text: string): Promise<void> {
    for (const connection of this.#server.connections) await connection.write(text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await this.#serving;
  }
}
