import assert from "node:assert/strict";
import { LineChild, spawnHere } from "../../lab/child.ts";
import { runHere, runWith, Sendq } from "../cli/helpers.ts";
import { answerOf } from "../observe/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until as untilOf } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const root = new URL("../..", import.meta.url).pathname;
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  untilOf(what, condition, 180_000);

/** What `/routes` says of one. */
interface Row {
  readonly route: string;
  readonly tone: string;
  readonly headline: string;
  readonly detail: string;
}

/** A process with several routes and a status page. */
class Daemon implements AsyncDisposable {
  readonly path: string;
  readonly #page: string;
  readonly #file: Record<string, unknown>;
  #sendq: Sendq | undefined;

  constructor(path: string, routes: Readonly<Record<string, Readonly<Record<string, unknown>>>>) {
    const address = `127.0.0.1:${ScriptedServer.freePort()}`;
    this.path = path;
    this.#page = `http://${address}`;
    this.#file = { http: { address } };
    this.write(routes);
  }

  write(routes: Readonly<Record<string, unknown>>): void {
    Deno.writeTextFileSync(this.path, JSON.stringify({ ...this.#file, routes }));
  }

  /** Starts it with exactly the permissions that `--check` names. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<Sendq> {
    const check = await runWith([`--allow-read=${this.path}`], ["run", "--check", this.path]);
    const [, flags] = /^deno run needs: (.*)$/m.exec(check.out) ?? [];
    assert(flags !== undefined, check.out);
    const names = Object.keys(env);
    const allowed = names.length === 0 ? [] : [`--allow-env=${names.join(",")},WATCHDOG_USEC`];
    this.#sendq = new Sendq(
      ["--no-prompt", ...flags.split(" "), ...allowed],
      ["run", this.path],
      env,
    );
    await this.#sendq.says(/status page/);
    return this.#sendq;
  }

  get sendq(): Sendq {
    assert(this.#sendq !== undefined);
    return this.#sendq;
  }

  get(path: string) {
    return answerOf(fetch(`${this.#page}${path}`));
  }

  /** How a route stands, by the page's list of routes. */
  async row(route: string): Promise<Row> {
    const rows: readonly Row[] = JSON.parse((await this.get("/routes")).text).routes;
    const row = rows.find((one) => one.route === route);
    assert(row !== undefined);
    return row;
  }

  /** Waits until a route stands by for a process. */
  async standsBy(route: string, pid: number): Promise<void> {
    const words = `process ${pid} sends from this queue`;
    await until(`${route} stands by for ${pid}`, async () => {
      const { headline, detail } = await this.row(route);
      return headline === "Standing by" && detail === words;
    });
  }

  /** Waits until a route sends. */
  async sends(route: string): Promise<void> {
    await until(
      `${route} sends`,
      async () =>
        ["idle", "good"].includes((await this.row(route)).tone) &&
        (await this.row(route)).headline !== "Standing by",
    );
  }

  async enqueue(route: string, text: string): Promise<void> {
    const { code, err } = await runHere([
      ...["enqueue", "--config", this.path, "--route", route, text],
    ]);
    assert.equal(code, 0, err);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sendq?.[Symbol.asyncDispose]();
  }
}

function connect(address: string): Promise<Deno.Conn> {
  const [hostname = "", port] = address.split(":");
  return Deno.connect({ hostname, port: Number(port) });
}

Deno.test({
  ...unless(NO_POSTGRES, "two processes with two routes each: one takes both over from the other"),
  async fn() {
    using dir = new TempDir();
    await using database = await PostgresServer.start();
    await using plc = new ReadingServer();
    await using logs = new ReadingServer();
    const routes = {
      plc: {
        queue: `${await database.makeQueue("plc")}?durability=power-loss`,
        remote: plc.remote,
        holdMs: 0,
      },
      logs: {
        queue: `${await database.makeQueue("logs")}?durability=power-loss`,
        remote: logs.remote,
        holdMs: 0,
      },
    };
    const notify = `${dir.path}/notify`;
    await using manager = new LineChild(spawnHere, Deno.execPath(), [
      ...["run", "--quiet", "--unstable-net", "--allow-net", "--allow-read", "--allow-write"],
      ...[`${root}tests/support/datagram_listener.ts`, notify],
    ]);
    assert.equal(JSON.parse(await manager.hear()), "listening");

    await using first = new Daemon(dir.file("first.json"), routes);
    const { child: { pid } } = await first.start();
    await first.sends("plc");
    await first.sends("logs");

    await using second = new Daemon(dir.file("second.json"), routes);
    await second.start({ NOTIFY_SOCKET: notify });
    await second.standsBy("plc", pid);
    await second.standsBy("logs", pid);
    const health = await second.get("/healthz");
    const words = `Standing by: process ${pid} sends from this queue`;
    assert.deepEqual([health.status, health.text], [200, `plc: ${words}\nlogs: ${words}\n`]);
    assert.equal((await second.row("plc")).tone, "idle");
    assert.equal((await second.get("/r/plc/")).text, `${words}\n`);
    assert.equal((await second.get("/r/plc/status")).status, 503);
    const { routes: reports } = JSON.parse((await second.get("/status")).text);
    assert.equal(reports.logs.condition.headline, "Standing by");
    const heard: string[] = [];
    const status = `STATUS=plc: ${words} · logs: ${words}`;
    while (!heard.includes(status) || !heard.some((one) => one.startsWith("READY"))) {
      heard.push(JSON.parse(await manager.hear()));
    }

    await first.enqueue("plc", "one");
    await first.enqueue("logs", "two");
    await until("both by the first", () => plc.text === "one\n" && logs.text === "two\n");
    first.sendq.child.kill("SIGKILL");
    await first.sendq.ended();
    await second.enqueue("plc", "three");
    await second.enqueue("logs", "four");
    await until(
      "both by the second",
      () => plc.text.endsWith("three\n") && logs.text.endsWith("four\n"),
    );
    await second.sends("plc");
    await second.sends("logs");
    const after = await second.get("/healthz");
    assert.equal(after.status, 200);
    assert.doesNotMatch(after.text, /Standing by/);
    assert.match((await second.get("/metrics")).text, /^sendq_queue_packets\{route="logs",/m);
    assert.equal((await second.get("/r/plc/status")).status, 200);
    second.sendq.child.kill("SIGTERM");
    assert.equal(await second.sendq.ended(), 0, second.sendq.stderr);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a route that stands by, or loses its lease, holds up no other one"),
  async fn() {
    using dir = new TempDir();
    await using database = await PostgresServer.start();
    await using other = new ReadingServer();
    await using lines = new ReadingServer();
    await using file = new ReadingServer();
    await using login = new ScriptedServer().start();
    const logins = login.readAll();
    const secret = dir.file("password.txt");
    Deno.writeTextFileSync(secret, "old ");
    const shared = `${await database.makeQueue("shared")}?durability=power-loss`;
    const own = `${await database.makeQueue("own")}?durability=power-loss`;
    const entry = `127.0.0.1:${ScriptedServer.freePort()}`;
    const session = { open: [{ send: { file: secret } }] };
    const routes = {
      shared: {
        ...{ queue: shared, remote: login.remote, holdMs: 0, session },
        // It connects at once where it begins, also with what it had before it was read anew.
        connect: "always",
        maxAttempts: 3,
      },
      own: { queue: own, remote: lines.remote, holdMs: 0, relay: { listen: [`tcp://${entry}`] } },
      file: { queue: dir.file("file.db"), remote: file.remote, holdMs: 0 },
    };
    const sendFrom = (queue: string) =>
      new Sendq(
        ["--no-prompt", "--allow-net", "--allow-ffi"],
        [
          "send",
          other.remote,
          "-q",
          queue,
          "--input",
          "none",
          "--hold",
          "0s",
          "--connect",
          "always",
        ],
      );
    await using holder = sendFrom(shared);
    await holder.says(/connected to/);
    await using daemon = new Daemon(dir.file("routes.json"), routes);
    const { child } = await daemon.start();

    await daemon.standsBy("shared", holder.child.pid);
    await daemon.enqueue("own", "one");
    await daemon.enqueue("file", "two");
    await until("those that send", () => lines.text === "one\n" && file.text === "two\n");
    assert.equal((await daemon.get("/healthz")).status, 200);

    // What is read anew while it stands by is what it begins with.
    Deno.writeTextFileSync(secret, "new ");
    daemon.write({ ...routes, shared: { ...routes.shared, maxAttempts: 4 } });
    child.kill("SIGHUP");
    await daemon.sendq.says(/shared: .*as it was: routes\.shared\.maxAttempts/);
    holder.child.kill("SIGTERM");
    assert.equal(await holder.ended(), 0, holder.stderr);
    await daemon.enqueue("shared", "three");
    await until("the packet behind the new password", () => logins[0] === "new three\n");

    // Stopped for too long, it has lost that lease to another one, and waits for it again.
    await using successor = sendFrom(own);
    await successor.says(/standing by: process/);
    child.kill("SIGSTOP");
    await successor.says(/connected to/);
    child.kill("SIGCONT");
    await daemon.sendq.says(/own: .*another sender has taken it over/);
    await daemon.standsBy("own", successor.child.pid);
    // It is told once, and nobody is asked for what happens by itself.
    assert.equal(daemon.sendq.stderr.match(/own: .* has taken it over/g)?.length, 1);
    assert.doesNotMatch(daemon.sendq.stderr, /Start it again|the next start/);
    await assert.rejects(connect(entry), Deno.errors.ConnectionRefused);
    await daemon.enqueue("file", "four");
    await daemon.enqueue("shared", "five");
    await until(
      "the others go on",
      () => file.text === "two\nfour\n" && logins.at(-1)?.endsWith("five\n") === true,
    );
    successor.child.kill("SIGTERM");
    assert.equal(await successor.ended(), 0, successor.stderr);
    await daemon.sends("own");
    const client = await connect(entry);
    await client.write(new TextEncoder().encode("six\n"));
    await until("it sends again", () => lines.text.endsWith("six\n"));
    client.close();

    // Who stands by has nothing to finish.
    await using last = sendFrom(shared);
    await last.says(/standing by: process/);
    child.kill("SIGTERM");
    assert.equal(await daemon.sendq.ended(), 0, daemon.sendq.stderr);
    await last.says(/connected to/);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a database that is away when several routes start is waited for"),
  async fn() {
    using dir = new TempDir();
    await using database = await PostgresServer.start();
    await using server = new ReadingServer();
    await using file = new ReadingServer();
    const queue = `${await database.makeQueue("outbox")}?durability=power-loss`;
    const none = `${database.url("none")}?durability=power-loss`;
    await using daemon = new Daemon(dir.file("routes.json"), {
      away: { queue, remote: server.remote, holdMs: 0 },
      none: { queue: none, remote: server.remote },
      file: { queue: dir.file("file.db"), remote: file.remote, holdMs: 0 },
    });
    await database.down();
    const { child } = await daemon.start();
    await daemon.enqueue("file", "one");
    await until("the route that needs no database", () => file.text === "one\n");
    await until("what is missing", async () => {
      const { tone, headline, detail } = await daemon.row("away");
      return tone === "bad" && headline === "Not started" && /It is tried again\.$/.test(detail);
    });
    assert.equal((await daemon.get("/healthz")).status, 503);

    await database.up();
    await daemon.enqueue("away", "two");
    await until("the packet", () => server.text === "two\n");
    await daemon.sends("away");
    // Waiting makes no queue.
    await daemon.sendq.says(/none: .*no queue/);
    const { detail } = await daemon.row("none");
    assert.match(detail, /sendq postgres setup/);
    assert.doesNotMatch(detail, /tried again/);
    // What is read anew does not reach it, and that is said.
    child.kill("SIGHUP");
    await daemon.sendq.says(/the route none has ended: it needs a restart/);
    child.kill("SIGTERM");
    assert.equal(await daemon.sendq.ended(), 1, daemon.sendq.stderr);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a route that stands by says when the database is away, and back"),
  async fn() {
    using dir = new TempDir();
    await using database = await PostgresServer.start();
    await using server = new ReadingServer();
    const queue = `${await database.makeQueue("outbox")}?durability=power-loss`;
    await using holder = new Sendq(
      ["--no-prompt", "--allow-net", "--allow-ffi"],
      ["send", server.remote, "-q", queue, "--input", "none", "--connect", "always"],
    );
    await holder.says(/connected to/);
    await using daemon = new Daemon(dir.file("routes.json"), {
      shared: { queue, remote: server.remote },
      file: { queue: dir.file("file.db"), remote: server.remote },
    });
    await daemon.start();
    await daemon.standsBy("shared", holder.child.pid);
    await database.down();
    await until("it says so", async () => (await daemon.get("/healthz")).status === 503);
    const { tone, headline, detail } = await daemon.row("shared");
    assert.deepEqual([tone, headline], ["bad", "Cannot take over"]);
    assert.match(detail, /^the lease cannot be looked at: /);
    await database.up();
    // Whether it stands by again or has been the first to take the lease.
    await until("it is well again", async () => (await daemon.get("/healthz")).status === 200);
    assert.notEqual((await daemon.row("shared")).headline, "Cannot take over");
  },
});

Deno.test("a second signal is heard while a database says nothing", async () => {
  using dir = new TempDir();
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using server = new ReadingServer();
  const queue = `postgres://sendq@127.0.0.1:${silent.addr.port}/packets/outbox`;
  const queueOptions = { busyTimeoutMs: "10m" };
  await using daemon = new Daemon(dir.file("routes.json"), {
    silent: { queue, remote: server.remote, queueOptions },
    file: { queue: dir.file("file.db"), remote: server.remote },
  });
  const { child } = await daemon.start();
  await daemon.sends("file");
  child.kill("SIGTERM");
  await daemon.sendq.says(/file: done/);
  child.kill("SIGTERM");
  await daemon.sendq.ended();
});

Deno.test("two routes of a file cannot have one queue, however it is written", async () => {
  using dir = new TempDir();
  const path = dir.file("routes.json");
  const check = async (first: string, second: string) => {
    const remote = "tcp://127.0.0.1:4000";
    const routes = { a: { queue: first, remote }, b: { queue: second, remote } };
    Deno.writeTextFileSync(path, JSON.stringify({ routes }));
    return await runHere(["run", "--check", path]);
  };
  const url = "postgres://sendq@db1,db2/packets/outbox";
  for (const same of ["postgresql://other@db2:5432,db1/packets/outbox?weaker=warn", url]) {
    const { code, out } = await check(url, same);
    assert.equal(code, 2);
    assert.match(out, /routes\.b\.queue is another route's/);
  }
  const { out } = await check(url, "postgres://sendq@db1,db3:6000/packets/inbox");
  assert.match(out, /--allow-net=127\.0\.0\.1:4000,db1:5432,db2:5432,db3:6000( |$)/m);
  const nameless = await check(url, "postgres://sendq:secret@db1/packets");
  assert.equal(nameless.code, 2);
  assert.match(nameless.out, /routes\.b\.queue: .*the queue's name is missing/);
  assert.doesNotMatch(nameless.out, /secret/);
});
