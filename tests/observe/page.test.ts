import assert from "node:assert/strict";
import { LineChild, type Spawn, spawnHere } from "../../lab/child.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { RecorderProcess } from "../../lab/recorder_process.ts";
import { LIBC } from "../cli/helpers.ts";
import { Browser, browserAvailable } from "./browser.ts";
import { StatusBench } from "./helpers.ts";

/** `deno test -- --keep-screenshot` replaces the picture in docs. */
const SCREENSHOT = Deno.args.includes("--keep-screenshot")
  ? new URL("../../docs/status-page.png", import.meta.url).pathname
  : undefined;
const PORT = 9465;
const INTERVAL_MS = 20;

const browser = await browserAvailable();
const network = await networkAvailable();
// deno-lint-ignore no-console -- an ignored test has to say why
if (!browser.ok) console.warn(`tests of the status page ignored: ${browser.reason}`);
// deno-lint-ignore no-console -- as above
else if (!network.ok) console.warn(`the page's cut path ignored: ${network.reason}`);

/** A sender with its page, in a process of its own. */
async function startSender(spawn: Spawn, directory: string, remote: string, port: number) {
  const files = `${directory}/outbox.db,${directory}/outbox.db.lock`;
  const child = new LineChild(spawn, Deno.execPath(), [
    ...["run", "--no-prompt", `--allow-net=${remote.slice("tcp://".length)},127.0.0.1:${port}`],
    ...[`--allow-read=${files}`, `--allow-write=${files}`, `--allow-ffi=${LIBC}`],
    new URL("status_child.ts", import.meta.url).pathname,
    ...[`${directory}/outbox.db`, remote, String(port), String(INTERVAL_MS)],
  ]);
  return { child, url: await child.hear() };
}

function assertNothingFromOutside(page: Browser, url: string): void {
  const { origin } = new URL(url);
  assert.ok(page.requests.length >= 6, `only ${page.requests.length} requests were seen`);
  const outside = page.requests.filter((request) =>
    new URL(request).origin !== origin && !request.startsWith("data:")
  );
  assert.deepEqual(outside, []);
}

Deno.test({
  name: "the path is cut: the page says so within 5 s, and recovers with it",
  ignore: !browser.ok || !network.ok,
  async fn() {
    const directory = await Deno.makeTempDir();
    await using net = await TestNetwork.create();
    await using server = await RecorderProcess.start({
      record: `${directory}/server.record`,
      address: net.serverAddress,
      spawn: net.spawnerIn("server"),
    });
    const remote = `tcp://${net.serverAddress}:${server.port}`;
    const { child, url } = await startSender(net.spawnerIn("sender"), directory, remote, PORT);
    await using _sender = child;
    await using page = await Browser.start(net.spawnerIn("sender"));
    await page.open(url, { dark: false });
    await page.wait("#headline", /^Delivering$/);
    assert.equal(await page.read("#verdict"), "healthy");
    await page.wait("#chart-rates .values", /acknowledged [1-9]/);

    const heal = await net.silentDrop({ direction: "both" });
    const waitedMs = await page.wait("#verdict", /^path-dead$/);
    assert.ok(waitedMs < 5000, `the page took ${waitedMs} ms`);
    await page.wait("#headline", /^Not delivering$/);
    await page.wait("#detail", /Path dead: not a sign of the peer for 3\.\d s/);
    await page.wait("#events .failure", /connection given up: path dead/);
    await page.wait("#health", /nothing acknowledged for [5-9]/);
    if (SCREENSHOT !== undefined) await page.screenshot(SCREENSHOT);

    await heal();
    await page.wait("#headline", /^Delivering$/);
    await page.wait("#verdict", /^healthy$/);
    await page.wait("#again", /^[1-9]/);
    await page.wait("#health", /^ok$/);
    assert.deepEqual(page.complaints, []);
    assertNothingFromOutside(page, url);
    await child[Symbol.asyncDispose]();
    await page.wait("#feed", /^no word from sendq/);
    await Deno.remove(directory, { recursive: true });
  },
});

Deno.test({
  name: "the server is killed and comes back: the page follows, in dark and on a phone",
  ignore: !browser.ok,
  async fn() {
    const directory = await Deno.makeTempDir();
    const recorderOf = (life: number, port = 0) =>
      RecorderProcess.start({ record: `${directory}/${life}.record`, port });
    const first = await recorderOf(1);
    const remote = `tcp://127.0.0.1:${first.port}`;
    using free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = free.addr;
    free.close();
    const { child, url } = await startSender(spawnHere, directory, remote, port);
    await using _sender = child;
    await using page = await Browser.start();
    await page.open(url, { dark: true, widthPx: 390 });
    await page.wait("#headline", /^Delivering$/);
    assert.equal(await page.overflowPx(), 0, "nothing sticks out of a phone's screen");

    await first.signal("SIGKILL");
    const waitedMs = await page.wait("#headline", /^Not delivering$/);
    assert.ok(waitedMs < 5000, `the page took ${waitedMs} ms`);
    await page.wait("#detail", /[Cc]onnection refused/);
    await page.wait("#events", /cannot connect to .*refused/);
    assert.equal(await page.overflowPx(), 0);

    await using _second = await recorderOf(2, first.port);
    await page.wait("#headline", /^Delivering$/);
    await page.wait("#connects", /^[2-9]/);
    assert.deepEqual(page.complaints, []);
    assertNothingFromOutside(page, url);
    await Deno.remove(directory, { recursive: true });
  },
});

Deno.test({
  name: "the form takes the token, and what a server says is text and not markup",
  ignore: !browser.ok,
  async fn() {
    const token = "correct horse battery".replaceAll(" ", "-");
    await using bench = await StatusBench.open({ token, showPayloads: true });
    await bench.stopServer();
    const markup = `<img src="http://192.0.2.1/x.png"><script>document.title = "taken"</script>\n`;
    await bench.sender.enqueue(new TextEncoder().encode(markup));
    await using page = await Browser.start();
    await page.open(bench.status.url);
    await page.fill("#token", "not the token at all");
    await page.wait("label", /^Token$/);
    await page.fill("#token", token);
    await page.wait("#headline", /^Not delivering$/);
    await page.wait("#payload-dump", /<img src="htt/);
    assert.ok(!(await page.read("title")).includes("taken"));
    assert.equal(await page.read("#queued"), "1");
    assertNothingFromOutside(page, bench.status.url);
    // The two answers before the token are 401, and the browser says so.
    assert.deepEqual(page.complaints.filter((words) => !/401/.test(words)), []);
  },
});
