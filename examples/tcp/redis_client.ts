/**
 * A small Redis client over `Deno.connect` that notices a dead path in about 3 s, where
 * a client without `watch` waits for a quarter of an hour. It counts in Redis once a second,
 * and connects anew when the connection is dead.
 *
 * ```sh
 * deno run --allow-net=127.0.0.1:6379 --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   examples/tcp/redis_client.ts 127.0.0.1 6379
 * ```
 */
// deno-lint-ignore-file no-console -- an example prints
import { setSocketOptions, type Watch, watch } from "../../src/tcp/tcp.ts"; // elsewhere: "jsr:@sendq/sendq/tcp"

/** What Redis answers. */
type Reply = string | number | null | Reply[];

class RedisClient implements Disposable {
  readonly #conn: Deno.TcpConn;
  readonly #watching: Watch;
  readonly #waiting: PromiseWithResolvers<Reply>[] = [];
  /** The writes so far, one after the other. */
  #writing: Promise<void> = Promise.resolve();
  /** Why there will be no more replies. */
  #ended: unknown;

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    // A command that is under way is watched. While none is, keepalive asks the peer, and
    // keeps a load balancer from dropping the connection.
    setSocketOptions(conn, { keepAlive: { idleMs: 1000, intervalMs: 1000, count: 3 } });
    this.#watching = watch(conn, { stallTimeoutMs: 3000 });
    void this.#readReplies();
  }

  static async connect(hostname: string, port: number): Promise<RedisClient> {
    const signal = AbortSignal.timeout(1000);
    return new RedisClient(await Deno.connect({ hostname, port, signal }));
  }

  /** Sends a command and gives its reply; rejects when the connection is dead. */
  async command(...words: readonly string[]): Promise<Reply> {
    if (this.#ended !== undefined) throw this.#ended;
    const parts = words.map((word) => `$${new TextEncoder().encode(word).length}\r\n${word}\r\n`);
    const reply = Promise.withResolvers<Reply>();
    this.#waiting.push(reply);
    const bytes = new TextEncoder().encode(`*${words.length}\r\n${parts.join("")}`);
    // A write that fails ends the reading, too, and that tells whoever waits.
    this.#writing = this.#writing.then(() => this.#write(bytes)).catch(() => {});
    return await reply.promise;
  }

  [Symbol.dispose](): void {
    this.#watching[Symbol.dispose]();
    this.#conn.close();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length;) {
      offset += await this.#conn.write(bytes.subarray(offset));
    }
  }

  async #readReplies(): Promise<void> {
    try {
      const reader = new ReplyReader(this.#conn);
      for (;;) {
        const reply = await reader.read();
        const waiting = this.#waiting.shift();
        if (reply instanceof Error) waiting?.reject(reply);
        else waiting?.resolve(reply);
      }
    } catch (error) {
      // The watch knows why in words, where it has given the connection up.
      const { signal } = this.#watching;
      this.#ended = signal.aborted ? signal.reason : error;
      for (const { reject } of this.#waiting.splice(0)) reject(this.#ended);
    }
  }
}

/** Reads replies in Redis' protocol, RESP 2. */
class ReplyReader {
  readonly #conn: Deno.TcpConn;
  readonly #buffer = new Uint8Array(16 * 1024);
  #bytes: Uint8Array = new Uint8Array();

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
  }

  /** An `Error` is what Redis says of a command that it refuses. */
  async read(): Promise<Reply | Error> {
    const line = await this.#line();
    const rest = line.slice(1);
    switch (line[0]) {
      case "+":
        return rest;
      case "-":
        return new Error(rest);
      case ":":
        return Number(rest);
      case "$": {
        if (rest === "-1") return null;
        const length = Number(rest);
        while (this.#bytes.length < length + 2) await this.#more();
        return this.#take(length, length + 2);
      }
      case "*": {
        const replies: Reply[] = [];
        for (let left = Number(rest); left > 0; left--) {
          const reply = await this.read();
          replies.push(reply instanceof Error ? reply.message : reply);
        }
        return replies;
      }
      default:
        throw new Error(`This is not Redis: it answers ${JSON.stringify(line)}`);
    }
  }

  async #line(): Promise<string> {
    for (let from = 0;;) {
      const end = this.#bytes.indexOf(0x0d, from);
      if (end >= 0 && end + 1 < this.#bytes.length) return this.#take(end, end + 2);
      from = Math.max(0, this.#bytes.length - 1);
      await this.#more();
    }
  }

  #take(length: number, end: number): string {
    const text = new TextDecoder().decode(this.#bytes.subarray(0, length));
    this.#bytes = this.#bytes.subarray(end);
    return text;
  }

  async #more(): Promise<void> {
    const length = await this.#conn.read(this.#buffer);
    if (length === null) throw new Error("Redis has closed the connection");
    const both = new Uint8Array(this.#bytes.length + length);
    both.set(this.#bytes);
    both.set(this.#buffer.subarray(0, length), this.#bytes.length);
    this.#bytes = both;
  }
}

const [hostname = "127.0.0.1", port = "6379"] = Deno.args;
for (;;) {
  try {
    using redis = await RedisClient.connect(hostname, Number(port));
    console.log("connected");
    for (;;) {
      const started = performance.now();
      try {
        console.log(`count ${await redis.command("INCR", "count")}`);
      } catch (error) {
        console.log(`no answer after ${((performance.now() - started) / 1000).toFixed(1)} s`);
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    console.log(error instanceof Error ? error.message : error);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
