/** A way to a server on which connections break at chosen moments. */

/**
 * What breaks the next connection:
 *
 * - `"question"`: what the client sends is not passed on
 * - `"answer"`: what the client sends is passed on, and what the server answers is not
 */
export type Break = "question" | "answer";

/** Passes connections on, until told otherwise. */
export class LossyProxy implements AsyncDisposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #targetPort: number;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #serving: Promise<void>;
  readonly #passing = new Set<Promise<void>>();
  #breaks: Break[] = [];
  #isSilent = false;
  /** How many connections were broken. */
  broken = 0;

  constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.#serving = this.#serve();
  }

  /** Breaks the next connections over which something is sent, each as it says. */
  breakNext(...breaks: Break[]): void {
    this.#breaks.push(...breaks);
  }

  /** Breaks nothing any more. */
  heal(): void {
    this.#breaks = [];
    this.#isSilent = false;
  }

  /** From now on nothing is passed on, in either direction, and nothing is closed. */
  silence(): void {
    this.#isSilent = true;
  }

  async #serve(): Promise<void> {
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#targetPort })
        .catch(() => undefined);
      if (server === undefined) {
        client.close();
        continue;
      }
      this.#connections.add(client).add(server);
      const state = { cutsAnswer: false };
      const passing = Promise.all([
        this.#pass(client, server, () => {
          const next = this.#breaks.shift();
          if (next === "answer") state.cutsAnswer = true;
          return next === "question";
        }),
        this.#pass(server, client, () => state.cutsAnswer),
      ]).then(() => {});
      this.#passing.add(passing);
      void passing.finally(() => this.#passing.delete(passing));
    }
  }

  async #pass(from: Deno.TcpConn, to: Deno.TcpConn, breaks: () => boolean): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    try {
      for (;;) {
        const length = await from.read(buffer);
        if (length === null) break;
        if (this.#isSilent) continue;
        if (breaks()) {
          this.broken++;
          break;
        }
        for (let at = 0; at < length;) at += await to.write(buffer.subarray(at, length));
      }
    } catch {
      // Either side has ended it.
    }
    for (const end of [from, to]) {
      if (!this.#connections.delete(end)) continue;
      end.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    await this.#serving.catch(() => {});
    await Promise.all(this.#passing);
  }
}
