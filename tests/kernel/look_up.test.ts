/**
 * Names and nameservers, in a namespace with a resolv.conf and a hosts file of its own.
 */

import assert from "node:assert/strict";
import { grantedLibc, testUnless } from "./helpers.ts";
import { Host, isolation, namespaceObstacle } from "./host.ts";

const PORT = 4000;
const NAME = "legacy.test";
/** Nobody answers there: its neighbour entry names a station that does not exist. */
const DEAD = "10.231.0.3";

/** Fills a file of /etc for the namespaces alone. */
function etc(name: string, ...lines: string[]): string[] {
  const file = `"$dir/${name}"`;
  return [
    `printf '%s\\n' ${lines.map((line) => `'${line}'`).join(" ")} > ${file}`,
    `mount --bind ${file} /etc/${name}`,
  ];
}

function setup(
  nameservers: readonly string[],
  hosts: readonly string[] = [],
  options = "timeout:1 attempts:1",
): string[] {
  return [
    "dir=$(mktemp -d)",
    ...etc("nsswitch.conf", "hosts: files dns"),
    ...etc("hosts", "127.0.0.1 localhost", ...hosts),
    ...etc("host.conf", "multi on"),
    ...etc(
      "resolv.conf",
      ...nameservers.map((address) => `nameserver ${address}`),
      `options ${options}`,
    ),
    'rm -r "$dir"',
    "ip link add d0 type veth peer name d1",
    "ip link set d0 up",
    "ip link set d1 up",
    "ip addr add 10.231.0.1/24 dev d0",
    "ip addr add fd31::1/64 dev d0 nodad",
    "ip addr add 192.0.2.1/32 dev lo",
    ...[DEAD, "fd31::3", "fd31::4", "fd31::5"].map((address) =>
      `ip neigh add ${address} lladdr 02:00:00:00:00:01 dev d0 nud permanent`
    ),
  ];
}

const obstacle = await namespaceObstacle();
const FIRST = "127.0.0.101";
const SECOND = "127.0.0.102";
/** The documented grant: one name, one port. Its nameservers are this test's own. */
const NET = `--allow-net=${NAME}:${PORT},${FIRST}:53,${SECOND}:53,127.0.0.1,192.0.2.1:${PORT}`;

testUnless(
  obstacle,
  "dialer: says when the name is known, with a grant of host and port",
  async () => {
    await using host = Host.isolated(setup([FIRST]), NET);
    await host.ask({ do: "dns", hostname: FIRST, answer: { address: "192.0.2.1" } });
    await host.ask({ do: "listen", hostname: "192.0.2.1", port: PORT });
    const { steps } = await host.ask({ do: "lookUp", hostname: NAME, port: PORT });
    // A server on this host may be quicker than the second of two look-ups.
    assert.equal(steps?.at(-1), `connected to 192.0.2.1:${PORT}`);
    const given = await host.ask({ do: "lookUp", hostname: "192.0.2.1", port: PORT });
    assert.deepEqual(given.steps, ["looked up", `connected to 192.0.2.1:${PORT}`]);
  },
);

testUnless(obstacle, "dialer: a dead server is known to have been looked up", async () => {
  await using host = Host.isolated(setup([FIRST]), NET);
  await host.ask({ do: "dns", hostname: FIRST, answer: { address: DEAD } });
  const request = { do: "lookUp", hostname: NAME, port: PORT, giveUpWhen: "looked-up" } as const;
  assert.deepEqual((await host.ask(request)).steps, ["looked up", "given up"]);
});

testUnless(obstacle, "dialer: a dead nameserver is not taken for a dead server", async () => {
  await using host = Host.isolated(setup([FIRST]), NET);
  await host.ask({ do: "dns", hostname: FIRST, answer: "silent" });
  const request = { do: "lookUp", hostname: NAME, port: PORT } as const;
  assert.deepEqual((await host.ask({ ...request, giveUpWhen: "asked" })).steps, ["given up"]);
  assert.deepEqual((await host.ask(request)).steps, [
    `${NAME} could not be looked up: no nameserver of /etc/resolv.conf could tell (EAI_AGAIN)`,
  ]);
});

testUnless(obstacle, "dialer: names that nobody looks up leave threads for all else", async () => {
  await using host = Host.isolated(setup([FIRST], [], "timeout:20 attempts:1"));
  await host.ask({ do: "dns", hostname: FIRST, answer: "silent" });
  assert.deepEqual(await host.ask({ do: "crowd", names: 40 }), { steps: ["something else"] });
});

testUnless(obstacle, "probe: a look-up that takes all the time is named as that", async () => {
  const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  const flags = ["--no-prompt", "--no-lock", `--allow-net=${NAME}`, `--allow-ffi=${grantedLibc()}`];
  const probe = ["probe", `tcp://${NAME}:${PORT}`, "--connect-timeout", "200ms"];
  // Its packages have to be there already: nothing can be fetched from where it runs.
  await new Deno.Command(Deno.execPath(), { args: ["cache", "--no-lock", main] }).output();
  // No nameserver, either, where nobody is.
  const args = [...isolation(setup([DEAD])), Deno.execPath(), "run", ...flags, main, ...probe];
  const { stdout, code } = await new Deno.Command("unshare", { args, stdin: "null" }).output();
  assert.equal(code, 1);
  assert.equal(
    new TextDecoder().decode(stdout),
    `verdict    cannot connect: ${NAME} was not looked up within 200ms: ` +
      "a nameserver of /etc/resolv.conf does not answer (EAI_AGAIN)\n",
  );
});

testUnless(obstacle, "dialer: the second nameserver stands in for a dead first one", async () => {
  await using host = Host.isolated(setup([FIRST, SECOND]), NET);
  await host.ask({ do: "dns", hostname: FIRST, answer: "silent" });
  await host.ask({ do: "dns", hostname: SECOND, answer: { address: DEAD } });
  const request = { do: "lookUp", hostname: NAME, port: PORT, giveUpWhen: "looked-up" } as const;
  assert.deepEqual((await host.ask(request)).steps, ["looked up", "given up"]);
});

testUnless(obstacle, "dialer: a name that is none, and a nameserver that cannot tell", async () => {
  for (
    const [answer, words] of [
      ["no-such-name", "there is no such name, or it has no address (ENOTFOUND)"],
      ["cannot", "no nameserver of /etc/resolv.conf could tell (EAI_AGAIN)"],
    ] as const
  ) {
    await using host = Host.isolated(setup([FIRST]), NET);
    await host.ask({ do: "dns", hostname: FIRST, answer });
    const { steps } = await host.ask({ do: "lookUp", hostname: NAME, port: PORT });
    assert.deepEqual(steps, [`${NAME} could not be looked up: ${words}`]);
  }
});

testUnless(
  obstacle,
  "dialer: of several addresses, dead ones in front cost no attempt",
  async () => {
    const hosts = [
      `fd31::3 one.test`,
      `192.0.2.1 one.test`,
      ...["fd31::3", "fd31::4", "fd31::5"].map((address) => `${address} three.test`),
      `192.0.2.1 three.test`,
    ];
    await using host = Host.isolated(setup([], hosts));
    await host.ask({ do: "listen", hostname: "192.0.2.1", port: PORT });
    for (const hostname of ["one.test", "three.test"]) {
      const { steps } = await host.ask({ do: "lookUp", hostname, port: PORT });
      assert.equal(steps?.at(-1), `connected to 192.0.2.1:${PORT}`, hostname);
    }
  },
);
