/**
 * A sender that is stopped while the server's window is closed: what its kernel still delivers
 * on the old connection, beside the next sender's.
 */
import assert from "node:assert/strict";
import { spawnHere } from "../../lab/child.ts";
import { connectionsOf } from "../../lab/connections_of.ts";
import { type TcpSocket, tcpSockets } from "../../lab/sockets.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { LIBC, Sendq } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { until as untilOf } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  untilOf(what, condition, 180_000);

/** More than the server's kernel and the sender's may have together while nobody reads. */
const PACKETS = 100;
const LINES = Array.from({ length: PACKETS }, (_, i) => `${i + 1}`.padEnd(9_999, ".") + "\n");
const ALL = LINES.join("");
const ESTABLISHED = 1;

/** A connection of the server, which reads it when it is told to. */
class Accepted {
  readonly #conn: Deno.Conn;
  readonly #buffer = new Uint8Array(64 * 1024);
  readonly port: number;
  text = "";
  /** `"open"`, `"FIN"`, or the name of the error with which it has ended. */
  end = "open";
  #reading: Promise<void> | undefined;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.port = conn.remoteAddr.port;
  }

  /** From now on all that comes is read: the window opens. */
  read(): void {
    this.#reading ??= this.#read();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    try {
      for (;;) {
        const bytes = await this.#conn.read(this.#buffer);
        if (bytes === null) break;
        this.text += decoder.decode(this.#buffer.subarray(0, bytes));
      }
      this.end = "FIN";
    } catch (error) {
      this.end = error instanceof Error ? error.name : String(error);
    }
  }

  async close(): Promise<void> {
    this.#conn.close();
    await this.#reading;
  }
}

/** A server on loopback, a queue on PostgreSQL that is full of packets, and senders. */
class Bench implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #database: PostgresServer;
  readonly #url: string;
  readonly accepted: Accepted[] = [];
  readonly #accepting: Promise<void>;

  private constructor(database: PostgresServer, url: string) {
    this.#database = database;
    this.#url = url;
    this.#accepting = (async () => {
      for await (const conn of connectionsOf(this.#listener)) {
        this.accepted.push(new Accepted(conn));
      }
    })();
  }

  static async make(database: PostgresServer): Promise<Bench> {
    const url = `${await database.makeQueue("outbox")}?durability=power-loss`;
    await using queue = await postgresQueue({ url });
    await queue.enqueueMany(LINES);
    return new Bench(database, url);
  }

  sender(...args: string[]): Sendq {
    const { port } = this.#listener.addr;
    const net = `--allow-net=127.0.0.1:${this.#database.port},127.0.0.1:${port}`;
    const command = ["send", `tcp://127.0.0.1:${port}`, "-q", this.#url, "--input", "none"];
    return new Sendq(
      ["--no-prompt", net, `--allow-ffi=${LIBC}`],
      [...command, ...args],
    );
  }

  /** The senders' sides of their connections, as the kernel has them. */
  async sockets(): Promise<TcpSocket[]> {
    const { port } = this.#listener.addr;
    const all = await tcpSockets(spawnHere);
    return all.filter(({ remotePort, state }) => remotePort === port && state === ESTABLISHED);
  }

  /** A connection on which nothing is under way: what waits on each of its sides. */
  async settled({ port }: Accepted): Promise<{ unreadBytes: number; unackedBytes: number }> {
    const { port: served } = this.#listener.addr;
    let before = "", now = "-";
    let unreadBytes = 0, unackedBytes = 0;
    await until("nothing is under way", async () => {
      const all = await tcpSockets(spawnHere);
      // By both ports: another program beside may have the same one for a connection elsewhere.
      const from = (near: number, far: number) =>
        all.find(({ localPort, remotePort }) => localPort === near && remotePort === far);
      const [ours, theirs] = [from(served, port), from(port, served)];
      if (theirs?.probesWindow !== true || ours === undefined) return false;
      ({ unreadBytes } = ours);
      ({ unackedBytes } = theirs);
      [before, now] = [now, `${unreadBytes} ${unackedBytes}`];
      return before === now;
    });
    return { unreadBytes, unackedBytes };
  }

  /** Stops a sender while the window of its connection is closed. */
  async stopAtClosedWindow(sender: Sendq): Promise<Accepted> {
    for (;;) {
      await until(`the window is closed: ${sender.stderr}`, async () => {
        return (await this.sockets()).some(({ probesWindow }) => probesWindow);
      });
      sender.child.kill("SIGSTOP");
      // Its kernel may have given the connection up before: then it has made another one.
      const socket = (await this.sockets()).find(({ probesWindow }) => probesWindow);
      const old = this.accepted.find(({ port }) => port === socket?.localPort);
      if (socket !== undefined && old !== undefined) {
        assert(socket.unackedBytes > 0, "its Send-Q is empty");
        return old;
      }
      sender.child.kill("SIGCONT");
    }
  }

  /** What the queue has left: the packets, and up to which id they were removed. */
  left(): Promise<string> {
    return this.#database.sql("SELECT packets, removed_through FROM sendq.queue");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#accepting;
    for (const one of this.accepted) await one.close();
  }
}

Deno.test({
  ...unless(NO_POSTGRES, "stopped at a closed window: the old Send-Q comes late, and no byte more"),
  async fn() {
    await using database = await PostgresServer.start();
    await using bench = await Bench.make(database);
    await using first = bench.sender("--hold", "100ms");
    const old = await bench.stopAtClosedWindow(first);
    const before = bench.accepted.length;
    // It removes nothing in this test, so that whatever is removed is the old one's doing.
    await using second = bench.sender("--hold", "1h");
    await until(`the next one sends: ${second.stderr}`, () => bench.accepted.length > before);
    const next = bench.accepted.at(-1);
    assert(next);
    // A slow machine may have confirmed some before the window was closed.
    const left = await bench.left();
    const removed = Number(left.split("|")[1]);
    assert(removed < PACKETS / 2, left);

    // The documented case: nobody but the kernel sends, and there is nobody to stop it.
    const { unreadBytes, unackedBytes } = await bench.settled(old);
    assert(unackedBytes > 0);
    const all = unreadBytes + unackedBytes;
    old.read();
    await until("the old Send-Q has come", () => old.text.length >= all);
    assert.equal(old.text, ALL.slice(0, all));
    assert.equal(old.end, "open");

    // All of that is drained now, and its peer reads. It is the next one's to confirm.
    first.child.kill("SIGCONT");
    assert.equal(await first.ended(), 1);
    assert.match(first.stderr, /another sender has taken it over/);
    await until("the old connection has ended", () => old.end !== "open");
    assert.equal(old.end, "ConnectionReset");
    assert.equal(old.text.length, all, "it has written something");
    assert.equal(await bench.left(), left, "it has removed something");

    next.read();
    const rest = LINES.slice(removed).join("");
    await until("the next one delivers all", () => next.text.length >= rest.length);
    assert.equal(next.text, rest);
    assert.equal(bench.accepted.length, before + 1);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "with --user-timeout the kernel gives the old connection up by itself"),
  async fn() {
    await using database = await PostgresServer.start();
    await using bench = await Bench.make(database);
    await using first = bench.sender("--hold", "100ms", "--user-timeout", "3s");
    const old = await bench.stopAtClosedWindow(first);
    const before = bench.accepted.length;
    await using second = bench.sender("--hold", "100ms");
    await until(`the next one sends: ${second.stderr}`, () => bench.accepted.length > before);
    const next = bench.accepted.at(-1);
    assert(next);
    next.read();
    await until("the kernel has given it up", async () => {
      return (await bench.sockets()).every(({ localPort }) => localPort !== old.port);
    });

    // The window opens only now that nobody can fill it: what is read had come before.
    old.read();
    await until("the old connection has ended", () => old.end !== "open");
    assert.equal(old.end, "ConnectionReset");
    assert(old.text.length > 0, "nothing had come");
    assert(ALL.includes(old.text));
    await until("the next one delivers all", () => next.text.endsWith(LINES.at(-1) ?? ""));
    assert(ALL.endsWith(next.text));
    await until("all is removed", async () => await bench.left() === `0|${PACKETS}`);

    first.child.kill("SIGCONT");
    assert.equal(await first.ended(), 1);
    assert.match(first.stderr, /another sender has taken it over/);
    assert.equal(bench.accepted.length, before + 1, "it has connected again");
    second.child.kill("SIGTERM");
    assert.equal(await second.ended(), 0, second.stderr);
  },
});
