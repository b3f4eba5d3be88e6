/** A TCP server that does what a test tells it, connection by connection. */
export class ScriptedServer implements AsyncDisposable {
  #listener: Deno.TcpListener | undefined;
  #port = 0;
  readonly #accepted: ServedConnection[] = [];
  #waiters: (() => void)[] = [];

  /** Starts listening on loopback; on the port of before after a {@linkcode stop}. */
  start(): this {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: this.#port });
    this.#listener = listener;
    this.#port = listener.addr.port;
    (async () => {
      for await (const conn of listener) {
        this.#accepted.push(new ServedConnection(conn));
        for (const wake of this.#waiters.splice(0)) wake();
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

  /** The next connection that nobody has asked for yet. */
  async accept(): Promise<ServedConnection> {
    for (;;) {
      const connection = this.#accepted.shift();
      if (connection !== undefined) return connection;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Reads everything from every connection, each into a text of its own. */
  readAll(): string[] {
    const texts: string[] = [];
    (async () => {
      for (;;) {
        const index = texts.push("") - 1;
        const connection = await this.accept();
        connection.readToEnd((text) => texts[index] += text);
      }
    })();
    return texts;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    for (const connection of this.#accepted) connection.close();
    for (const connection of ServedConnection.open) connection.close();
    return Promise.resolve();
  }
}

/** One accepted connection. Nothing is read unless told. */
export class ServedConnection {
  static readonly open = new Set<ServedConnection>();
  readonly #conn: Deno.TcpConn;
  readonly #buffer = new Uint8Array(64 * 1024);

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    ServedConnection.open.add(this);
  }

  /** One read; empty at the end. */
  async read(maxBytes = this.#buffer.length): Promise<string> {
    const readBytes = await this.#conn.read(this.#buffer.subarray(0, maxBytes)).catch(() => null);
    return readBytes === null ? "" : new TextDecoder().decode(this.#buffer.subarray(0, readBytes));
  }

  /** Reads until `text` has come. */
  async readUntil(text: string): Promise<string> {
    let all = "";
    while (!all.includes(text)) {
      const part = await this.read();
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

  /** Sends the FIN, goes on reading. */
  halfClose(): Promise<void> {
    return this.#conn.closeWrite();
  }

  /** Closes: a FIN if everything was read, a reset if not (RFC 1122, 4.2.2.13). */
  close(): void {
    if (ServedConnection.open.delete(this)) this.#conn.close();
  }
}
