import assert from "node:assert/strict";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { Sender } from "../../src/sender/sender.ts";
import { LineChild, spawnHere } from "../../lab/child.ts";
import { LIBC, runHere, Sendq } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until as untilOf, within } from "../support/until.ts";
import { LossyProxy } from "./lossy_proxy.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const root = new URL("../..", import.meta.url).pathname;
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  untilOf(what, condition, 180_000);

async function connects(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch (error) {
    assert(error instanceof Deno.errors.ConnectionRefused, String(error));
    return false;
  }
}

Deno.test({
  ...unless(NO_POSTGRES, "a relay that stands by is READY, and has its port open once it sends"),
  async fn() {
    using dir = new TempDir();
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    await using legacy = new ReadingServer();
    const path = `${dir.path}/notify`;
    await using manager = new LineChild(spawnHere, Deno.execPath(), [
      ...["run", "--quiet", "--unstable-net", "--allow-net", "--allow-read", "--allow-write"],
      ...[`${root}tests/support/datagram_listener.ts`, path],
    ]);
    assert.equal(JSON.parse(await manager.hear()), "listening");
    const heard: string[] = [];
    const hear = async (fits: RegExp) => {
      for (;;) {
        heard.push(JSON.parse(await manager.hear()));
        if (fits.test(heard.at(-1) ?? "")) return;
      }
    };
    const start = (port: number, env: Record<string, string>) => {
      const net = [`127.0.0.1:${server.port}`, legacy.remote.replace("tcp://", "")];
      return new Sendq(
        [
          ...["--no-prompt", `--allow-net=${[...net, `127.0.0.1:${port}`].join(",")}`],
          ...[`--allow-ffi=${LIBC}`, "--allow-env=NOTIFY_SOCKET,WATCHDOG_USEC"],
        ],
        ["relay", "--listen", `tcp://127.0.0.1:${port}`, "--to", legacy.remote, "-q", url],
        env,
      );
    };
    const ports = [ScriptedServer.freePort(), ScriptedServer.freePort()] as const;
    await using first = start(ports[0], {});
    await first.says(/listening on/);
    assert.match(first.stderr, /an acknowledged packet survives a power cut of the primary/);

    await using second = start(ports[1], { NOTIFY_SOCKET: path });
    await hear(new RegExp(`^READY=1\nMAINPID=${second.child.pid}$`));
    await hear(
      new RegExp(`^STATUS=standing by: process ${first.child.pid} sends from this queue$`),
    );
    assert.equal(await connects(ports[0]), true);
    assert.equal(await connects(ports[1]), false);
    assert.doesNotMatch(second.stderr, /listening on/);

    first.child.kill("SIGTERM");
    await first.ended();
    await second.says(/listening on/);
    const client = await Deno.connect({ hostname: "127.0.0.1", port: ports[1] });
    await client.write(new TextEncoder().encode("one\n"));
    await until("the packet", () => legacy.text === "one\n");
    client.close();
    second.child.kill("SIGTERM");
    await hear(/^STOPPING=1$/);
    assert.equal(await second.ended(), 0, second.stderr);
    assert.equal(heard.filter((words) => words.startsWith("READY")).length, 1);

    // A port that cannot be had ends the one that has begun, and gives the right to send back.
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    await using third = start(taken.addr.port, {});
    assert.equal(await third.ended(), 1);
    assert.match(third.stderr, /in use/);
    assert.equal(await server.sql("SELECT holder IS NULL FROM sendq.lease"), "t");
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "the only route of a file stands by through a reload, and ends when told"),
  async fn() {
    using dir = new TempDir();
    await using server = await PostgresServer.start();
    await using lines = new ReadingServer();
    const queue = `${await server.makeQueue("only")}?durability=power-loss`;
    const path = dir.file("route.json");
    const route = { queue, remote: lines.remote, holdMs: 0, maxAttempts: 3 };
    const write = (changes: Record<string, unknown>) =>
      Deno.writeTextFileSync(path, JSON.stringify({ ...route, ...changes }));
    write({});
    const start = () =>
      new Sendq(["--no-prompt", "--allow-net", "--allow-ffi", `--allow-read=${path}`], [
        ...["run", path],
      ]);
    await using first = start();
    await first.says(/an acknowledged packet survives/);
    await until("it sends", async () => await holderOf(server) !== "");

    await using second = start();
    const standsBy = new RegExp(
      `standing by: process ${first.child.pid} sends from this queue`,
      "g",
    );
    await second.says(standsBy);
    write({ nothing: "of that name" });
    second.child.kill("SIGHUP");
    await second.says(/the route file was read anew and has mistakes: nothing was changed/);
    write({ holdMs: 7, maxAttempts: 4 });
    second.child.kill("SIGHUP");
    await second.says(/needs a restart, and is as it was: maxAttempts/);
    await second.says(/read anew: changed holdMs/);
    // Another one is told to stop while it stands by: it has nothing to finish.
    await using third = start();
    await third.says(standsBy);
    third.child.kill("SIGINT");
    assert.equal(await third.ended(), 0, third.stderr);
    assert.match(third.stderr, /SIGINT: stopping/);

    first.child.kill("SIGTERM");
    assert.equal(await first.ended(), 0, first.stderr);
    await until("the second sends", async () => await holderOf(server) !== "");
    const { code, err } = await runHere(["enqueue", "-q", queue, "one"]);
    assert.equal(code, 0, err);
    await until("the packet", () => lines.text === "one\n");
    second.child.kill("SIGTERM");
    assert.equal(await second.ended(), 0, second.stderr);
    assert.match(second.stderr, /done: 1 packets? delivered/);
  },
});

Deno.test({
  ...unless(
    NO_POSTGRES,
    "a command that waits for a database which does not answer ends when told",
  ),
  async fn() {
    // It takes connections and says nothing.
    using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const accepted = silent.accept();
    const queue = `postgres://nobody@127.0.0.1:${silent.addr.port}/packets/outbox`;
    await using sendq = new Sendq(["--no-prompt", "--allow-net", "--allow-ffi"], [
      ...["send", "tcp://127.0.0.1:9", "-q", queue, "--input", "none"],
    ]);
    const conn = await accepted;
    sendq.child.kill("SIGTERM");
    assert.equal(await sendq.ended(), 0, sendq.stderr);
    assert.match(sendq.stderr, /SIGTERM: stopping/);
    conn.close();
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "who stands by for a database that has fallen silent ends when told"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await server.sql("UPDATE sendq.lease SET holder = 'another', ttl_ms = 600000");
    await using proxy = new LossyProxy(server.port);
    const told = Promise.withResolvers<string>();
    const queue = await postgresQueue({
      url: `postgres://postgres@127.0.0.1:${proxy.port}/postgres/outbox?durability=power-loss`,
      // Whoever waits for an answer waits for longer than the test.
      ...{ leaseTtlMs: 600_000, answerTimeoutMs: 600_000, busyTimeoutMs: 600_000 },
      onStandBy: told.resolve,
    });
    const stop = new AbortController();
    const { signal } = stop;
    const opening = Sender.open(queue, "tcp://127.0.0.1:9", { closesQueue: true, signal });
    assert.match(await within("it stands by", told.promise), /standing by: another sends/);
    proxy.silence();
    // It looks so often that it is asking by then, or is about to.
    const reason = new Error("enough");
    stop.abort(reason);
    await within("it ends", assert.rejects(opening, (error) => error === reason));
    await within("the queue is closed", queue.close());
  },
});

/** The process that has the lease; empty: nobody. */
async function holderOf(server: PostgresServer): Promise<string> {
  return await server.sql("SELECT coalesce(holder::text, '') FROM sendq.lease");
}
