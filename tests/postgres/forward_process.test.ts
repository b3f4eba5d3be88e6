/** Forwarders as processes: killed on the way, cut off, and with no more permissions than they say. */
import assert from "node:assert/strict";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { queuePermissions, runWith, Sendq } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { RunningProgram } from "../support/running_program.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until as untilOf } from "../support/until.ts";
import { inCluster, numbers } from "./packets.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const CHILD = new URL("forward_child.ts", import.meta.url).pathname;
const ALONE = "?durability=power-loss";
/** Many processes on a busy machine. */
const DEADLINE_MS = 180_000;

const KILLS = 50;
const PACKETS_A_ROUND = 80;

function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  return untilOf(what, condition, DEADLINE_MS);
}

/** The permissions that docs/CLUSTER.md names. */
function permissions(queue: string, port: number): string[] {
  return ["--no-prompt", `--allow-net=127.0.0.1:${port}`, ...queuePermissions(queue)];
}

function child(queue: string, url: string, port: number, where: string): RunningProgram {
  return new RunningProgram(
    new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-check", "--allow-run", ...permissions(queue, port)],
        ...[CHILD, queue, url, where],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
}

Deno.test({
  ...unless(NO_POSTGRES, `a forwarder that is killed ${KILLS} times: each packet once, in order`),
  async fn() {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    using dir = new TempDir();
    await using queue = await OutboundQueue.open(dir.queue);
    for (let round = 0; round < KILLS; round++) {
      const before = round * PACKETS_A_ROUND;
      const packets = numbers(PACKETS_A_ROUND, before + 1);
      const where = ["before-removal", "after-removal", "never"][round % 3] ?? "";
      // Some are there when it starts, the others come meanwhile.
      await queue.enqueueMany(packets.slice(0, 40));
      await using running = child(dir.queue, url, server.port, where);
      await queue.enqueueMany(packets.slice(40));
      if (where === "never") {
        // Wherever it is then: some are forwarded one at a time.
        await until("it forwards", () => /forwarding/.test(running.stderr));
        await new Promise((resolve) => setTimeout(resolve, round % 7));
        running.child.kill("SIGKILL");
      }
      const { signal } = await running.child.status;
      assert.equal(signal, "SIGKILL", running.stderr);
      if (where === "before-removal") {
        const through = Number(await server.sql("SELECT through FROM sendq.edge"));
        using file = await QueueInspector.open(dir.queue);
        const { removedThroughId } = await file.counts();
        assert(through > removedThroughId, "the cluster has some that are in the file, too");
      }
    }
    await using last = child(dir.queue, url, server.port, "never");
    await until("all are forwarded", async () => {
      const through = await server.sql("SELECT through FROM sendq.edge");
      return Number(through) === KILLS * PACKETS_A_ROUND;
    }).catch((error) => {
      throw new Error(`${error.message}, but: ${last.stderr}`);
    });
    assert.deepEqual(await inCluster(url), numbers(KILLS * PACKETS_A_ROUND));
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "sendq forward, with no more permissions than it says"),
  async fn(t) {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    const url = `${server.url("outbox")}${ALONE}`;
    using dir = new TempDir();
    const { queue } = dir;
    const args = ["forward", "-q", queue, "--to", url, "--edge", "plant 7"];
    const granted = permissions(queue, server.port);

    await t.step("what is missing is named in one message", async () => {
      const denied = await runWith(["--no-prompt"], args);
      assert.equal(denied.code, 77);
      assert.match(denied.err, /--allow-net=127\.0\.0\.1:[0-9]+ --allow-read=.* --allow-write=/);
    });

    await t.step("wrong arguments are named", async () => {
      for (
        const [extra, words] of [
          [["--follow"], /--follow need an --input/],
          [["--http-token-file", "x"], /needs --http/],
          [["--http", "0.0.0.0:9465"], /--http needs a token where it is not a loopback address/],
          [["--edge", ""], /--edge/],
          [["--to", "tcp://one:1"], /Expected postgres:/],
          [["--to", server.url()], /the queue's name is missing/],
          [["-q", url], /is about a file/],
          [["--quiet", "--verbose"], /cannot be combined/],
        ] as const
      ) {
        const { code, err } = await runWith(granted, [...args, ...extra]);
        assert.deepEqual([code, words.test(err)], [2, true], `${extra}: ${err}`);
      }
    });

    await t.step("what a pipe brings is forwarded, then it exits 0", async () => {
      const { code, err } = await runWith(granted, [...args, "-i", "lines"], "1\n2\n3\n");
      assert.equal(code, 0, err);
      assert.match(err, /info {2}forwards to postgres:.* as edge plant 7\n/);
      assert.match(err, /info {2}done: 3 packets forwarded\n$/);
      assert.deepEqual(await inCluster(url), ["1\n", "2\n", "3\n"]);
    });

    await t.step(
      "cut off: it takes packets, says so, stops in order, and the next goes on",
      async () => {
        await server.down();
        await using running = new Sendq(granted, [
          ...[...args, "-i", "lines", "--deliver-timeout", "0s"],
        ]);
        await running.write("4\n5\n");
        await running.says(/warn {2}no primary can be reached/);
        await until("they are stored", async () => {
          await using file = await OutboundQueue.open(queue);
          return file.stats().packets === 2;
        });
        running.child.kill("SIGINT");
        assert.equal(await running.ended(), 75, running.stderr);
        assert.match(
          running.stderr,
          /warn {2}stopped: 2 packets kept in .*; the next start forwards/,
        );

        await using next = new Sendq(granted, [...args, "-i", "lines"]);
        await next.write("6\n");
        await next.says(/no primary can be reached/);
        await server.up();
        await next.says(/packets get through again/);
        // Cut off again, in the middle.
        await server.down();
        await next.write("7\n");
        await next.endInput();
        await server.up();
        assert.equal(await next.ended(), 0, next.stderr);
        assert.deepEqual(
          await inCluster(url),
          ["1", "2", "3", "4", "5", "6", "7"].map((n) => `${n}\n`),
        );
      },
    );

    await t.step("a service for what others store, with its health; SIGTERM ends it", async () => {
      const http = `127.0.0.1:${ScriptedServer.freePort()}`;
      const withHttp = granted.map((flag) =>
        flag.startsWith("--allow-net=") ? `${flag},${http}` : flag
      );
      await using running = new Sendq(withHttp, [
        ...[...args, "--http", http, "--status-interval", "100ms"],
      ]);
      await running.says(/status: http:/);
      const stored = await runWith(queuePermissions(queue), ["enqueue", "-q", queue, "8", "9"]);
      assert.equal(stored.code, 0, stored.err);
      await running.says(/queued 0 packets, 2 forwarded/);
      await until("status on this machine shows it", async () => {
        const { out } = await runWith(queuePermissions(queue), ["status", "-q", queue]);
        return /^forwarder +process [0-9]+, for .*, to postgres:.*, as edge plant 7$/m.test(out) &&
          /^forwarded +2 packets; the cluster has ids up to 9$/m.test(out);
      });
      const answer = await fetch(`http://${http}/healthz`);
      assert.deepEqual([answer.status, await answer.text()], [
        200,
        "Connected. Everything is forwarded.\n",
      ]);
      running.child.kill("SIGTERM");
      assert.equal(await running.ended(), 0, running.stderr);
      assert.equal((await inCluster(url)).length, 9);
    });

    await t.step(
      "a file that was made anew is refused with words, and taken when told",
      async () => {
        for (const suffix of ["", "-wal", "-shm", ".lock"]) {
          await Deno.remove(queue + suffix).catch(() => {});
        }
        const refused = await runWith(granted, [...args, "-i", "lines"], "new\n");
        assert.equal(refused.code, 1);
        assert.doesNotMatch(refused.err, /the next start forwards them/);
        assert.match(
          refused.err,
          /another file was forwarded under this name.*--as-new.*--edge "…"/s,
        );
        const taken = await runWith(granted, [...args, "-i", "lines", "--as-new"], "newer\n");
        assert.equal(taken.code, 0, taken.err);
        // What the refused one had read was on disk.
        assert.deepEqual((await inCluster(url)).slice(9), ["new\n", "newer\n"]);
      },
    );

    await t.step("what expires on the way is named, then it exits 1", async () => {
      {
        await using file = await OutboundQueue.open(queue, { ttlMs: 1 });
        await file.enqueue("late\n");
      }
      const { code, err } = await runWith(granted, [...args, "-i", "lines"]);
      assert.equal(code, 1, err);
      assert.match(err, /info {2}done: 0 packets forwarded, 1 expired\n/);
      assert.match(
        err,
        /1 packet was not delivered and is a dead letter: see sendq list --dead\n$/,
      );
    });
  },
});
