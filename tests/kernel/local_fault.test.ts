/**
 * Faults of the own host, made for real in two network namespaces that are
 * joined by a veth pair: client c0 10.231.0.1 and fd31::1, server s0 10.231.0.2
 * and fd31::2, behind it 192.0.2.7 and fd32::7.
 */

import assert from "node:assert/strict";
import { testUnless } from "./helpers.ts";
import { Host, namespaceObstacle, run } from "./host.ts";

const CLIENT = `sendq-c-${Deno.pid}`;
const SERVER = `sendq-s-${Deno.pid}`;
const PORT = 4000;
const SILENT_PORT = 4001;

const obstacle = await namespaceObstacle("nft");

/** `ip` with arguments as one string, in a namespace. */
function ip(namespace: string, line: string): Promise<void> {
  return run("ip", "-n", namespace, ...line.split(" "));
}

async function inNamespaces(test: (client: Host, server: Host) => Promise<void>): Promise<void> {
  await run("ip", "netns", "add", CLIENT);
  try {
    await run("ip", "netns", "add", SERVER);
    await ip(CLIENT, `link add c0 type veth peer name s0 netns ${SERVER}`);
    await ip(CLIENT, "link set lo up");
    await ip(SERVER, "link set lo up");
    await restoreClient();
    await ip(SERVER, "addr add 10.231.0.2/24 dev s0");
    await ip(SERVER, "addr add fd31::2/64 dev s0 nodad");
    await ip(SERVER, "addr add 192.0.2.7/32 dev lo");
    await ip(SERVER, "addr add fd32::7/128 dev lo nodad");
    await ip(SERVER, "link set s0 up");
    await using client = Host.in(CLIENT);
    await using server = Host.in(SERVER);
    await server.ask({ do: "listen", hostname: "0.0.0.0", port: PORT });
    await server.ask({ do: "listen", hostname: "fd32::7", port: PORT });
    await client.ask({ do: "listen", hostname: "127.0.0.1", port: PORT });
    await test(client, server);
  } finally {
    await run("ip", "netns", "del", CLIENT).catch(() => {});
    await run("ip", "netns", "del", SERVER).catch(() => {});
  }
}

/** Sets the client's link, addresses and routes to how they should be, whatever they are. */
async function restoreClient(): Promise<void> {
  await ip(CLIENT, "link set c0 up");
  await ip(CLIENT, "addr replace 10.231.0.1/24 dev c0");
  await ip(CLIENT, "addr replace fd31::1/64 dev c0 nodad");
  await ip(CLIENT, "route replace 192.0.2.7 via 10.231.0.2");
  await ip(CLIENT, "-6 route replace fd32::7 via fd31::2");
  // The kernel makes an IPv6 address its own a moment after `ip` has returned.
  for (let attempt = 1;; attempt++) {
    const args = ["-n", CLIENT, "-6", "route", "show", "table", "local"];
    const { stdout } = await new Deno.Command("ip", { args }).output();
    if (new TextDecoder().decode(stdout).includes("local fd31::1 ")) return;
    assert.ok(attempt < 1000, "fd31::1 does not become an address of c0");
  }
}

async function dial(client: Host, wire: string, hostname: string, device?: string): Promise<void> {
  const request = { do: "dial", wire, hostname, port: PORT } as const;
  const answer = await client.ask(
    device === undefined ? request : { ...request, bindToDevice: device },
  );
  assert.deepEqual(answer, { device: wire === "loopback" ? "lo" : "c0" });
}

testUnless(obstacle, "local fault: route, address, link and carrier are told apart", async () => {
  await inNamespaces(async (client) => {
    await dial(client, "v4", "192.0.2.7");
    await dial(client, "v6", "fd32::7");
    await dial(client, "bound", "192.0.2.7", "c0");
    await dial(client, "loopback", "127.0.0.1");
    const all = ["v4", "v6", "bound", "loopback"];
    const healthy = async () => {
      for (const wire of all) assert.equal(await client.fault(wire), null, wire);
    };
    await healthy();

    await ip(CLIENT, "route del 192.0.2.7");
    await ip(CLIENT, "-6 route del fd32::7");
    for (const [wire, hostname] of [["v4", "192.0.2.7"], ["v6", "fd32::7"]] as const) {
      assert.deepEqual(await client.fault(wire), {
        kind: "no-route",
        device: "c0",
        words: `there is no route to ${hostname}`,
      });
    }
    // A connection bound to a device may take its peer for a neighbour on that
    // device, as the kernel does: no route is needed, and none is missed.
    assert.equal(await client.fault("bound"), null);
    assert.equal(await client.fault("loopback"), null);
    await restoreClient();
    await healthy();

    for (const type of ["unreachable", "prohibit", "blackhole"]) {
      await ip(CLIENT, `route replace ${type} 192.0.2.7`);
      await ip(CLIENT, "-6 route del fd32::7");
      await ip(CLIENT, `-6 route add ${type} fd32::7`);
      for (const [wire, hostname] of [["v4", "192.0.2.7"], ["v6", "fd32::7"]] as const) {
        assert.deepEqual(await client.fault(wire), {
          kind: "no-route",
          device: "c0",
          words: `the route to ${hostname} is of type ${type}`,
        });
      }
      const { fault } = await client.ask({
        do: "probe",
        local: "10.231.0.1",
        remote: "192.0.2.7",
      });
      assert.equal(fault?.kind, "no-route", "without netlink");
      await ip(CLIENT, `route del ${type} 192.0.2.7`);
      await ip(CLIENT, `-6 route del ${type} fd32::7`);
      await restoreClient();
    }
    await healthy();

    await ip(CLIENT, "addr add 10.231.9.1/24 dev c0"); // Another address does not help.
    await ip(CLIENT, "addr del 10.231.0.1/24 dev c0");
    await ip(CLIENT, "addr del fd31::1/64 dev c0");
    for (const [wire, address] of [["v4", "10.231.0.1"], ["v6", "fd31::1"]] as const) {
      assert.deepEqual(await client.fault(wire), {
        kind: "address-gone",
        device: "c0",
        words: `the local address ${address} was removed from c0`,
      });
    }
    await restoreClient();
    await healthy();

    await ip(SERVER, "link set s0 down");
    for (const wire of ["v4", "v6", "bound"]) {
      assert.deepEqual(await client.fault(wire), {
        kind: "carrier-lost",
        device: "c0",
        words: "c0 has lost its carrier",
      });
    }
    assert.equal(await client.fault("loopback"), null);
    await ip(SERVER, "link set s0 up");
    await healthy();

    await ip(CLIENT, "link set c0 down"); // Takes the routes away too; the link is named.
    for (const wire of ["v4", "v6", "bound"]) {
      assert.deepEqual(await client.fault(wire), {
        kind: "link-down",
        device: "c0",
        words: "c0 is down",
      });
    }
    assert.equal(await client.fault("loopback"), null);
    await restoreClient();
    await healthy();

    await ip(CLIENT, "link set lo down");
    assert.deepEqual(await client.fault("loopback"), {
      kind: "link-down",
      device: "lo",
      words: "lo is down",
    });
    await ip(CLIENT, "link set lo up");
    await healthy();

    await ip(CLIENT, "link del c0");
    assert.deepEqual(await client.fault("v4"), {
      kind: "link-down",
      device: "c0",
      words: "c0 no longer exists",
    });
  });
});

testUnless(
  obstacle,
  "local fault: a link that was left while the peer was heard is blamed no more",
  async () => {
    await inNamespaces(async (client) => {
      await ip(CLIENT, `link add c1 type veth peer name s1 netns ${SERVER}`);
      await ip(CLIENT, "link set c1 up");
      await ip(SERVER, "link set s1 up");
      await ip(CLIENT, "addr add 10.231.1.1/24 dev c1");
      await ip(SERVER, "addr add 10.231.1.2/24 dev s1");
      await ip(CLIENT, "route add 192.0.2.7 via 10.231.1.2 metric 100");
      await dial(client, "moved", "192.0.2.7");
      await dial(client, "bound", "192.0.2.7", "c0");
      await ip(CLIENT, "link set c0 down");
      const left = { kind: "link-down", device: "c0", words: "c0 is down" } as const;
      // As long as nobody was heard over the other link, this one may be why.
      assert.deepEqual(await client.fault("moved"), left);
      await client.ask({ do: "note-link", wire: "moved" });
      assert.equal(await client.fault("moved"), null);
      await client.ask({ do: "note-link", wire: "bound" });
      assert.deepEqual(await client.fault("bound"), left);
      await ip(CLIENT, "link set c1 down");
      const now = { kind: "link-down", device: "c1", words: "c1 is down" } as const;
      assert.deepEqual(await client.fault("moved"), now);
      // With no way at all the last one stays noted.
      await client.ask({ do: "note-link", wire: "moved" });
      assert.deepEqual(await client.fault("moved"), now);
    });
  },
);

testUnless(obstacle, "local fault: a way by a rule for the port is a way", async () => {
  await inNamespaces(async (client) => {
    for (
      const [family, hostname, gateway] of [
        ["-4", "192.0.2.7", "10.231.0.2"],
        ["-6", "fd32::7", "fd31::2"],
      ] as const
    ) {
      await ip(CLIENT, `${family} route del ${hostname}`);
      await ip(CLIENT, `${family} route add ${hostname} via ${gateway} dev c0 table 77`);
      await ip(CLIENT, `${family} rule add ipproto tcp dport ${PORT} lookup 77`);
      await dial(client, "by-port", hostname);
      assert.equal(await client.fault("by-port"), null, hostname);
      await ip(CLIENT, `${family} rule del ipproto tcp dport ${PORT} lookup 77`);
      assert.equal((await client.fault("by-port"))?.kind, "no-route", hostname);
      // Why a way is not there is asked of the same rules.
      await ip(CLIENT, `${family} rule add ipproto tcp dport ${PORT} lookup 77`);
      await ip(CLIENT, `${family} route replace prohibit ${hostname} table 77`);
      const { error, message } = await client.ask({
        do: "dial",
        wire: "prohibited",
        hostname,
        port: PORT,
      });
      assert.equal(error, "EACCES");
      assert.match(message ?? "", /the route to .* is of type prohibit/);
    }
  });
});

testUnless(obstacle, "local fault: a way by a rule for the source is a way", async () => {
  await inNamespaces(async (client) => {
    const rules = `table inet t {\nchain c {\ntype filter hook input priority 0\n` +
      `tcp dport ${SILENT_PORT} reject with icmpx type host-unreachable\n}\n}\n`;
    await run("ip", "netns", "exec", SERVER, "nft", rules);
    for (
      const [family, hostname, gateway, source] of [
        ["-4", "192.0.2.7", "10.231.0.2", "10.231.0.1"],
        ["-6", "fd32::7", "fd31::2", "fd31::1"],
      ] as const
    ) {
      await ip(CLIENT, `${family} route del ${hostname}`);
      await ip(CLIENT, `${family} route add ${hostname} via ${gateway} dev c0 table 78`);
      await ip(CLIENT, `${family} rule add from ${source} lookup 78`);
      const none = { message: `there is no route to ${hostname}` };
      const ask = (from: string | undefined) => client.ask({ do: "route", hostname, source: from });
      assert.deepEqual(await ask(source), { device: "c0" });
      assert.deepEqual(await ask(undefined), none);
      // What this host does not have: no rule is for it, and no route is a blackhole for it.
      assert.deepEqual(await ask(family === "-4" ? "10.231.9.9" : "fd31::9"), none);
      assert.deepEqual(await ask(family === "-4" ? "fd31::1" : "10.231.0.1"), none);
      // The server's host refuses, and not for want of a route here.
      const request = { do: "dial", wire: "refused", hostname, port: SILENT_PORT, source } as const;
      const refused = await client.ask(request);
      assert.equal(refused.error, "EHOSTUNREACH", hostname);
      assert.doesNotMatch(refused.message ?? "", /there is no route/);
      await ip(CLIENT, `${family} route replace prohibit ${hostname} table 78`);
      const { message } = await client.ask(request);
      assert.match(message ?? "", /the route to .* is of type prohibit/);
    }
  });
});

testUnless(obstacle, "dialer: what a firewall prohibits is no missing permission", async () => {
  await inNamespaces(async (client) => {
    const rules = `table inet t {\nchain c {\ntype filter hook input priority 0\n` +
      `tcp dport ${SILENT_PORT} reject with icmpv6 type admin-prohibited\n}\n}\n`;
    await run("ip", "netns", "exec", SERVER, "nft", rules);
    const answer = await client.ask({
      do: "dial",
      wire: "prohibited",
      hostname: "fd32::7",
      port: SILENT_PORT,
    });
    assert.deepEqual(answer, {
      error: "EACCES",
      message: "a firewall on the way, or this host's own rules, prohibit it (EACCES)",
      lasting: false,
    });
  });
});

testUnless(obstacle, "dialer: bindToDevice holds against a route over another device", async () => {
  await inNamespaces(async (client) => {
    await ip(CLIENT, "link add d0 type veth peer name d1");
    await ip(CLIENT, "link set d0 up");
    const answer = await client.ask({
      do: "dial",
      wire: "wrong",
      hostname: "192.0.2.7",
      port: PORT,
      bindToDevice: "d0",
    });
    assert.deepEqual(answer, { error: "ENETUNREACH", message: answer.message, lasting: false });
  });
});

testUnless(
  obstacle,
  "dialer: a bindToDevice that was there and is gone may come back",
  async () => {
    await inNamespaces(async (client) => {
      const request = { do: "dial", wire: "bound", hostname: "192.0.2.7", port: PORT } as const;
      const never = await client.ask({ ...request, bindToDevice: "no-such-device" });
      assert.deepEqual([never.error, never.lasting], ["SocketOptionError", true]);
      const bound = { ...request, bindToDevice: "c0" } as const;
      assert.deepEqual(await client.ask(bound), { device: "c0" });
      const rename = async (from: string, to: string) => {
        await ip(CLIENT, `link set ${from} down`);
        await ip(CLIENT, `link set ${from} name ${to}`);
        await ip(CLIENT, `link set ${to} up`);
        await ip(CLIENT, `route replace 192.0.2.7 via 10.231.0.2 dev ${to}`);
      };
      await rename("c0", "c9");
      const gone = await client.ask(bound);
      assert.deepEqual([gone.error, gone.lasting], ["SOCKET_OPTION", false]);
      assert.match(gone.message ?? "", /bindToDevice = c0: there is no such interface/);
      await rename("c9", "c0");
      assert.deepEqual(await client.ask(bound), { device: "c0" });
    });
  },
);

testUnless(
  obstacle,
  "dialer: attempts given up on a blackhole leave no descriptor behind",
  async () => {
    await inNamespaces(async (client) => {
      const rules = `table inet t {\nchain c {\ntype filter hook input priority 0\n` +
        `tcp dport ${SILENT_PORT} drop\n}\n}\n`;
      await run("ip", "netns", "exec", SERVER, "nft", rules);
      for (const hostname of ["192.0.2.7", "fd32::7"]) {
        const answer = await client.ask({
          do: "blackhole",
          hostname,
          port: SILENT_PORT,
          attempts: 10,
        });
        assert.deepEqual(answer, { leaked: 0 });
      }
    });
  },
);

testUnless(
  obstacle,
  "dialer: a link-local address is reached over the interface of its zone",
  async () => {
    await inNamespaces(async (client, server) => {
      await ip(CLIENT, "addr add fe80::c/64 dev c0 nodad");
      await ip(SERVER, "addr add fe80::5/64 dev s0 nodad");
      await server.ask({ do: "listen", hostname: "::", port: PORT + 2 });
      const port = PORT + 2;
      for (const hostname of ["fe80::5%c0", "[fe80::5%25c0]"]) {
        const { steps } = await client.ask({ do: "lookUp", hostname, port });
        assert.deepEqual(steps, ["looked up", `connected to [fe80::5%c0]:${port}`]);
      }
      const answer = await client.ask({ do: "dial", wire: "local", hostname: "fe80::5%c0", port });
      assert.deepEqual(answer, { device: "c0" });
      assert.equal(await client.fault("local"), null);
      const wrong = await client.ask({ do: "dial", wire: "x", hostname: "fe80::5%nope0", port });
      assert.deepEqual([wrong.error, wrong.lasting], ["ENODEV", false]);
      assert.equal(wrong.message, "there is no interface nope0 (ip link)");
      await ip(SERVER, "link set s0 down");
      assert.equal((await client.fault("local"))?.kind, "carrier-lost");
      await ip(CLIENT, "link set c0 down");
      assert.equal((await client.fault("local"))?.kind, "link-down");
      const down = await client.ask({ do: "dial", wire: "x", hostname: "fe80::5%c0", port });
      assert.deepEqual([down.error, down.lasting], ["ENETUNREACH", false]);
    });
  },
);
