/** What a queue on PostgreSQL says of itself: in the library, over HTTP, on the page, by `status`. */
import assert from "node:assert/strict";
import { Sender } from "../../mod.ts";
import { serveStatus } from "../../src/observe/http.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { runWith } from "../cli/helpers.ts";
import { Browser, browserAvailable } from "../observe/browser.ts";
import { unless } from "../queue/helpers.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { until as untilOf } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const DEADLINE_MS = 180_000;
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  untilOf(what, condition, DEADLINE_MS);

const browser = await browserAvailable();
// deno-lint-ignore no-console -- what is left out says why
if (!browser.ok) console.warn(`the page of a queue on PostgreSQL ignored: ${browser.reason}`);

class Log {
  readonly lines: string[] = [];
  debug(): void {}
  info(words: string): void {
    this.lines.push(`info ${words}`);
  }
  warn(words: string): void {
    this.lines.push(`warn ${words}`);
  }
  error(words: string): void {
    this.lines.push(`error ${words}`);
  }
}

Deno.test({
  ...unless(NO_POSTGRES, "lease and standbys are told everywhere, and what is wrong with them"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    await using standby = await server.standby("p2");
    server.set("synchronous_standby_names = 'ANY 1 (p2)'");
    await server.reload();
    await until("the standby is waited for", async () => {
      const text = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
      return await server.sql(text) === "1";
    });
    await using legacy = new ReadingServer();
    await using queue = await postgresQueue({ url, holder: "machine one", answerTimeoutMs: 1000 });
    assert.equal(
      queue.survives,
      "the loss of the primary with its disk, and a power cut of all machines at a time " +
        "(each commit waits for ANY 1 (p2))",
    );
    await using sender = await Sender.open(queue, legacy.remote, { holdMs: 0 });
    await using status = serveStatus(sender, { port: 0 });
    const at = async (path: string) => {
      const answer = await fetch(new URL(path, status.url));
      return { status: answer.status, text: await answer.text() };
    };
    const cluster = () => {
      const found = sender.stats().cluster;
      assert(found !== undefined);
      return found;
    };
    await until("it is known", () => cluster().replication.state === "replicated");
    const { lease, replication: { standbys }, weakness } = cluster();
    assert.equal(lease?.holder, "machine one");
    assert.equal(lease.epoch, 1);
    assert(lease.validForMs > 0);
    assert.deepEqual(standbys.map(({ name, state, sync }) => [name, state, sync]), [
      ["p2", "streaming", "quorum"],
    ]);
    assert.equal(weakness, null);
    await sender.enqueue("one\n");
    await until("it arrives", () => legacy.text === "one\n");
    const metrics = (await at("metrics")).text;
    const labels = `remote="${sender.remote}"`;
    for (
      const line of [
        `sendq_lease_valid{sendq_lease_holder="machine one",${labels}} 1`,
        `sendq_lease_epoch{${labels}} 1`,
        `sendq_replication_state{sendq_replication_state_name="replicated",${labels}} 1`,
        `sendq_replication_state{sendq_replication_state_name="blocked",${labels}} 0`,
        `sendq_replication_weak{${labels}} 0`,
      ]
    ) assert(metrics.includes(`\n${line}\n`), `${line} is not in ${metrics}`);
    assert.match(metrics, /\nsendq_lease_beat_age_seconds\{[^}]*\} [0-9.]+\n/);
    assert.match(
      metrics,
      /\nsendq_replication_lag_size_bytes\{sendq_standby_name="p2",[^}]*\} [0-9]+\n/,
    );
    assert.equal((await at("healthz")).status, 200);

    const net = ["--no-prompt", `--allow-net=127.0.0.1:${server.port}`];
    let shown = { out: "" };
    await until("its report is there", async () => {
      shown = await runWith(net, ["status", "-q", url]);
      return /^state +/m.test(shown.out);
    });
    assert.match(shown.out, /^survives +the loss of the primary .* ANY 1 \(p2\)\)$/m);
    assert.match(shown.out, /^standbys +Each commit waits for ANY 1 \(p2\)$/m);
    assert.match(shown.out, /^ +p2: quorum, streaming, .* behind$/m);
    assert.match(shown.out, /^sender +machine one, epoch 1, beat [0-9.]+m?s ago, for /m);
    const json = JSON.parse((await runWith(net, ["status", "-q", url, "--json"])).out);
    assert.equal(json.database.replication.state, "replicated");
    assert.equal(json.database.weakness, null);
    assert(json.sender.beatAgeMs >= 0);

    await using page = browser.ok ? await Browser.start() : undefined;
    await page?.open(status.url);
    await page?.wait("#lease", /^machine one, epoch 1, beat .* ago$/);
    await page?.wait("#standbys", /^replicated, waits for ANY 1 \(p2\); p2 \(quorum, streaming\)/);

    // Its beat waits for the standby, too: until it runs out, the standby is what is wrong.
    await standby.down();
    await until("it is noticed", () => cluster().replication.state === "blocked");
    assert.equal(sender.condition.tone, "bad");
    await until("the lease runs out", () => cluster().lease?.validForMs === 0);
    assert.equal(sender.condition.headline, "May not send");
    const sick = await at("healthz");
    assert.equal(sick.status, 503);
    assert.match(sick.text, /May not send\. The database has not taken a beat/);
    await page?.wait("#lease", /, run out$/);
    await page?.wait("#standbys", /^blocked, waits for ANY 1 \(p2\)$/);
    await page?.wait("#headline", /^May not send$/);

    await standby.up();
    await until(
      "all is well",
      () => cluster().replication.state === "replicated" && (cluster().lease?.validForMs ?? 0) > 0,
    );
    await until("healthy", async () => (await at("healthz")).status === 200);
    assert.deepEqual(page?.complaints ?? [], []);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a database that promises less is warned of, where that is asked for"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    const log = new Log();
    await assert.rejects(postgresQueue({ url }), /synchronous_standby_names is empty/);
    await using queue = await postgresQueue({ url: `${url}?weaker=warn`, logger: log });
    const weak = /^warn .*synchronous_standby_names is empty, so that an acknowledged packet/;
    assert.match(log.lines[0] ?? "", weak);
    assert.match(queue.survives, /^less than machine-loss .*: synchronous_standby_names is empty$/);
    assert.equal(await queue.enqueue("one"), 1);
    assert.equal(await queue.enqueue("two"), 2);
    assert.equal(log.lines.length, 1, "each change is told once");

    // Another setting, while the connection lives: a change is told with the next commit.
    server.set("full_page_writes = off");
    await server.reload();
    await until("the next change", async () => {
      await queue.enqueue("three");
      return log.lines.length > 1;
    });
    assert.match(log.lines[1] ?? "", /full_page_writes is off/);

    await using _standby = await server.standby("p2");
    server.set("full_page_writes = on\nsynchronous_standby_names = 'p2'");
    await server.reload();
    await until("all is well", async () => {
      await queue.enqueue("four");
      return /means again what it should/.test(log.lines.at(-1) ?? "");
    });
    assert.doesNotMatch(queue.survives, /less than/);

    // The command warns, and stores.
    server.set("synchronous_standby_names = ''");
    await server.reload();
    await until("it counts", async () => await server.sql("SHOW synchronous_standby_names") === "");
    const net = ["--no-prompt", `--allow-net=127.0.0.1:${server.port}`];
    const refused = await runWith(net, ["enqueue", "-q", url, "five"]);
    assert.equal(refused.code, 1);
    const { code, out, err } = await runWith(net, ["enqueue", "-q", `${url}?weaker=warn`, "five"]);
    assert.equal(code, 0, err);
    assert.match(out, /^stored 1 packet/);
    assert.match(err, /synchronous_standby_names is empty, so that an acknowledged packet/);
    const shown = await runWith(net, ["status", "-q", url]);
    assert.match(shown.out, /^survives +less than machine-loss promises/m);
  },
});
