/**
 * The units of `examples/systemd/` under a real systemd: with all that they forbid,
 * started, reloaded, hung, killed and stopped.
 */

import assert from "node:assert/strict";
import { LIBC } from "../cli/helpers.ts";
import { testUnless } from "../kernel/helpers.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";
import { Systemd, systemdObstacle } from "./systemd.ts";

const root = new URL("../..", import.meta.url).pathname;
const obstacle = await systemdObstacle();

/** A file of the example, with ports that are free here. */
function example(name: string, changes: readonly (readonly [string, string])[]): string {
  const text = Deno.readTextFileSync(`${root}examples/systemd/${name}`);
  return changes.reduce((changed, [from, to]) => changed.replaceAll(from, to), text);
}

/** Sends a line by the relay, and waits until it is stored. */
async function sendLine(port: number, line: string): Promise<void> {
  using client = await Deno.connect({ hostname: "127.0.0.1", port });
  await client.write(new TextEncoder().encode(`${line}\n`));
  await client.closeWrite();
  assert.equal(await client.read(new Uint8Array(1)), null);
}

testUnless(
  obstacle,
  "systemd: its units are started, reloaded, given up when they hang, and stopped in order",
  async () => {
    const port = ScriptedServer.freePort();
    const relay = ScriptedServer.freePort();
    const changes = [
      ["127.0.0.1:4001", `127.0.0.1:${relay}`],
      ["127.0.0.1:9465", `127.0.0.1:${ScriptedServer.freePort()}`],
      ["legacy:4000", `127.0.0.1:${port}`],
      ["logs:601", `127.0.0.1:${ScriptedServer.freePort()}`],
      ["/lib/x86_64-linux-gnu/libc.so.6", LIBC],
      ['"format": "json"', '"format": "json", "statusIntervalMs": "100ms"'],
      // A stop with the server away would wait for it.
      ['"20s"', '"100ms"'],
    ] as const;
    await using systemd = await Systemd.start({
      "sendq.service": example("sendq.service", changes),
      "sendq-relay.service": example("sendq-relay.service", changes),
      // Half a minute would be long for a test.
      "sendq.service.d/watchdog.conf": "[Service]\nWatchdogSec=5\n",
    }, { "route.json": example("route.json", changes) });
    const mainPid = async () => Number(await systemd.property("sendq", "MainPID"));

    await using server = new ReadingServer({ port });
    // It returns once READY was said.
    const started = await systemd.run("systemctl", "start", "sendq");
    assert.equal(started.code, 0, started.err + await systemd.journal("sendq"));
    assert.equal(await systemd.property("sendq", "ActiveState"), "active");
    await sendLine(relay, "one");
    await until("the line", () => server.text === "one\n");
    await until("a line of both routes", async () => {
      return /^2 routes: \w+ \d/.test(await systemd.property("sendq", "StatusText"));
    });
    const first = await mainPid();
    const { out: status } = await systemd.run("cat", `/proc/${first}/status`);
    for (const right of ["CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      assert.match(status, new RegExp(`^${right}:\\s*0+$`, "m"));
    }
    assert.match(status, /^NoNewPrivs:\s*1$/m);
    assert.match(status, /^Seccomp:\s*2$/m);
    assert.doesNotMatch(status, /^Uid:\s*0\b/m);

    const reloaded = await systemd.run("systemctl", "reload", "sendq");
    assert.equal(reloaded.code, 0, reloaded.err);
    await until("the reload in the journal", async () => {
      return /read anew: no option has changed/.test(await systemd.journal("sendq"));
    });

    // A hang: nobody feeds the watchdog any more.
    await systemd.run("kill", "-STOP", String(first));
    const isAnother = async (than: number) => {
      const pid = await mainPid();
      return pid !== 0 && pid !== than &&
        await systemd.property("sendq", "ActiveState") === "active";
    };
    await until("another process", () => isAnother(first), 60_000);
    assert.match((await systemd.run("journalctl", "--no-pager", "-o", "cat")).out, /[Ww]atchdog/);
    const second = await mainPid();
    await systemd.run("kill", "-KILL", String(second));
    await until("a third process", () => isAnother(second), 60_000);
    await sendLine(relay, "two");
    // What was not confirmed when it was killed comes once more.
    await until("the second line", () => /^(one\n)+two\n$/.test(server.text));

    // With packets kept it exits with 75, which is no failure.
    await server[Symbol.asyncDispose]();
    await sendLine(relay, "three");
    const worstFirst = /^plc: Not delivering: .* \(\d packets? queued\) · 1 other: Idle 1$/;
    await until("what is wrong with one of the two", async () => {
      return worstFirst.test(await systemd.property("sendq", "StatusText"));
    });
    const stopped = await systemd.run("systemctl", "stop", "sendq");
    assert.equal(stopped.code, 0, stopped.err);
    assert.match(await systemd.journal("sendq"), /\d packets? kept/);
    assert.equal(await systemd.property("sendq", "ExecMainStatus"), "75");
    assert.equal(await systemd.property("sendq", "ActiveState"), "inactive");
    assert.equal(await systemd.property("sendq", "Result"), "success");
    await using again = new ReadingServer({ port });
    await systemd.run("systemctl", "start", "sendq");
    await until("what was kept", () => again.text.endsWith("three\n"));
    await systemd.run("systemctl", "stop", "sendq");

    const other = await systemd.run("systemctl", "start", "sendq-relay");
    assert.equal(other.code, 0, other.err + await systemd.journal("sendq-relay"));
    await sendLine(relay, "four");
    await until("a line by the other unit", () => again.text.endsWith("three\nfour\n"));
    assert.equal((await systemd.run("systemctl", "stop", "sendq-relay")).code, 0);
    assert.equal(await systemd.property("sendq-relay", "Result"), "success");
  },
);

const noReview = await reviewObstacle();
for (const unit of ["sendq.service", "sendq-relay.service"]) {
  testUnless(noReview, `systemd-analyze security: what the docs say of ${unit}`, async () => {
    const { out } = await review(`${root}examples/systemd/${unit}`);
    const [, level] = /Overall exposure level for \S+: (\d+\.\d)/.exec(out) ?? [];
    const docs = Deno.readTextFileSync(`${root}docs/PLATFORMS.md`);
    const [, said] = /`systemd-analyze security` rates them (\d+\.\d)/.exec(docs) ?? [];
    assert.ok(level !== undefined && said !== undefined, out);
    // Newer versions look for more, which may cost a little.
    assert.ok(Number(level) <= Number(said) + 0.3, `${level}, and not ${said}\n${out}`);
  });
}

function review(path: string): Promise<{ readonly success: boolean; readonly out: string }> {
  const args = ["security", "--offline=true", "--no-pager", path];
  return new Deno.Command("systemd-analyze", { args }).output().then(({ success, stdout }) => ({
    success,
    out: new TextDecoder().decode(stdout),
  }));
}

async function reviewObstacle(): Promise<string | undefined> {
  try {
    const { success } = await review(`${root}examples/systemd/sendq.service`);
    return success ? undefined : "this systemd-analyze cannot review a file";
  } catch {
    return "needs the program systemd-analyze";
  }
}
