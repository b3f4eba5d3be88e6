/** Where a command is to listen and cannot: which option, which address, and what to do. */
import assert from "node:assert/strict";
import { TempDir } from "../support/temp_dir.ts";
import { runWith } from "./helpers.ts";

const PERMISSIONS = ["--allow-net", "--allow-read", "--allow-write", "--allow-ffi"];
/** A server that nobody connects to: the command ends before. */
const REMOTE = "tcp://127.0.0.1:1";
const NO_ADDRESS = "no interface of this host has that address\\. Give one that it has, or ";
const NO_NAME = "Name or service not known\\. Give an address of this host, or a name that it ";
const IN_USE = "is in use already: another program listens there\\. Stop it, or choose another ";

Deno.test("where nobody can listen, the option and the address are named, and what to do", async (t) => {
  using dir = new TempDir();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const busy = `127.0.0.1:${taken.addr.port}`;
  const token = dir.file("token");
  Deno.writeTextFileSync(token, "a-token-of-some-length");
  const missing = `unix:${dir.file("nowhere/x.sock")}`;
  const relay = (listen: string) => ["relay", "--listen", listen, "--to", REMOTE];
  const page = (
    address: string,
  ) => ["send", REMOTE, "--input", "none", "--http", address, "--http-token-file", token];
  // 192.0.2.0/24 is for documentation, and .invalid is nobody's (RFC 5737, RFC 6761).
  for (
    const [args, words] of [
      [
        relay("tcp://192.0.2.1:4000"),
        `--listen: cannot listen at tcp://192.0.2.1:4000: ${NO_ADDRESS}`,
      ],
      [
        relay("tcp://no.invalid:4000"),
        `--listen: cannot listen at tcp://no.invalid:4000: ${NO_NAME}`,
      ],
      [
        relay(missing),
        `--listen: cannot listen at ${missing}: its directory does not exist. Create `,
      ],
      [relay(`tcp://${busy}`), `--listen: tcp://${busy} ${IN_USE}`],
      [page("192.0.2.1:4000"), `--http: cannot listen at 192.0.2.1:4000: ${NO_ADDRESS}`],
      [page("no.invalid:4000"), `--http: cannot listen at no.invalid:4000: ${NO_NAME}`],
      [page(busy), `--http: ${busy} ${IN_USE}`],
      [
        ["send", "listen://192.0.2.1:4000"],
        `cannot listen at listen://192.0.2.1:4000: ${NO_ADDRESS}`,
      ],
      [
        ["send", "listen://no.invalid:4000"],
        `cannot listen at listen://no.invalid:4000: ${NO_NAME}`,
      ],
      [["send", `listen://${busy}`], `listen://${busy} ${IN_USE}`],
    ] as const
  ) {
    await t.step(args.join(" ").replaceAll(dir.path, "").replaceAll(busy, "busy"), async () => {
      const { code, err } = await runWith(PERMISSIONS, [...args, "-q", dir.queue]);
      assert.equal(code, 1, err);
      assert.match(err, new RegExp(` error ${words}`));
      assert.doesNotMatch(err, /unexpected/);
    });
  }
});

Deno.test("run names the route, too", async () => {
  using dir = new TempDir();
  const route = (name: string, more: object) => ({
    queue: dir.file(name),
    remote: REMOTE,
    ...more,
  });
  const routes = {
    plc: route("a.db", { relay: { listen: ["tcp://no.invalid:4000"] } }),
    logs: route("b.db", { remote: "listen://no.invalid:4001" }),
  };
  Deno.writeTextFileSync(dir.file("route.json"), JSON.stringify({ routes }));
  const { code, err } = await runWith(PERMISSIONS, ["run", dir.file("route.json")]);
  assert.equal(code, 1, err);
  assert.match(err, / error plc: --listen: cannot listen at tcp:\/\/no\.invalid:4000: /);
  assert.match(err, / error logs: cannot listen at listen:\/\/no\.invalid:4001: /);
});
