/** Why an attempt failed, in words, and whether another one is worth while. */

import assert from "node:assert/strict";
import {
  KernelCallError,
  QueueFileError,
  type QueueFileReason,
  SocketOptionError,
  UnsupportedPlatformError,
  WireError,
} from "../../src/base/errors.ts";
import { isLasting } from "../../src/base/lasting.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";
import { patience, testUnless } from "./helpers.ts";
import { Host, namespaceObstacle } from "./host.ts";

Deno.test("isLasting: what a person has to change, and nothing else", () => {
  const lasting = [
    new Deno.errors.NotCapable("Requires net access"),
    new SocketOptionError("congestion", "nope", "it is not loaded"),
    new UnsupportedPlatformError("sendq runs on Linux"),
  ];
  for (const error of lasting) assert.equal(isLasting(error), true, error.name);
  const passing = [
    new WireError("EINVAL", "the route is of type blackhole"),
    new KernelCallError("ioctl(SIOCOUTQ)", "failed"),
    new TypeError("Invalid argument (os error 22)"),
    new RangeError("a bug"),
    new Deno.errors.PermissionDenied("Permission denied (os error 13)"),
    new DOMException("aborted", "AbortError"),
    "a string",
    undefined,
  ];
  for (const error of passing) assert.equal(isLasting(error), false, String(error));
  const files: Record<QueueFileReason, boolean> = {
    "not-a-queue": true,
    "newer-version": true,
    "corrupt": true,
    "disk-full": false,
    "read-only": false,
    "busy": false,
    "io": false,
    "misplaced": false,
  };
  for (const [reason, expected] of Object.entries(files)) {
    const error = new QueueFileError(reason as QueueFileReason, "q.db", "words");
    assert.equal(isLasting(error), expected, reason);
  }
});

Deno.test("dialer: whatever Deno throws has a code and words, but for a missing permission", async () => {
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: 9 });
  const { connect } = Deno;
  const failWith = async (error: unknown): Promise<unknown> => {
    Object.assign(Deno, { connect: () => Promise.reject(error) });
    try {
      return await dialer.dial(patience()).catch((failure) => failure);
    } finally {
      Object.assign(Deno, { connect });
    }
  };
  const thrown = (error: Error, code?: string) => Object.assign(error, code && { code });
  const cases: readonly (readonly [unknown, string, RegExp])[] = [
    [thrown(new TypeError("Invalid argument (os error 22)"), "EINVAL"), "EINVAL", /^invalid/],
    [thrown(new Error("No buffer space (os error 105)")), "ENOBUFS", /^no buffer space \(ENOBUFS/],
    [
      thrown(new Error("Too many open files (os error 24)"), "EMFILE"),
      "EMFILE",
      /^too many open files \(EMFILE\): raise the limit .*ulimit -n/,
    ],
    [new RangeError("whatever"), "UNKNOWN", /^whatever \(UNKNOWN\)$/],
    ["a string", "UNKNOWN", /^a string/],
  ];
  for (const [error, code, message] of cases) {
    const failure = await failWith(error);
    assert.ok(failure instanceof WireError, String(error));
    assert.equal(failure.code, code);
    assert.match(failure.message, message);
    assert.equal(failure.cause, error);
    assert.equal(isLasting(failure), false);
  }
  const missing = new Deno.errors.NotCapable("Requires net access");
  assert.equal(await failWith(missing), missing);
});

testUnless(
  await namespaceObstacle(),
  "dialer: a route that forbids is named, and may be another one soon",
  async () => {
    await using host = Host.isolated([
      "ip link add d0 type veth peer name d1",
      "ip link set d0 up",
      "ip link set d1 up",
      "ip addr add 10.231.0.1/24 dev d0",
      ...["blackhole", "prohibit", "unreachable"].flatMap((type, index) => [
        `ip route add ${type} 192.0.2.${index + 1}`,
        `ip -6 route add ${type} 2001:db8::${index + 1}`,
      ]),
    ]);
    const cases: readonly (readonly [string, string, string])[] = [
      ["192.0.2.1", "EINVAL", "the route to 192.0.2.1 is of type blackhole (EINVAL)"],
      ["192.0.2.2", "EACCES", "the route to 192.0.2.2 is of type prohibit (EACCES)"],
      ["192.0.2.3", "EHOSTUNREACH", "the route to 192.0.2.3 is of type unreachable (EHOSTUNREACH)"],
      ["192.0.2.4", "ENETUNREACH", "there is no route to 192.0.2.4 (ENETUNREACH)"],
      ["2001:db8::1", "EINVAL", "the route to 2001:db8::1 is of type blackhole (EINVAL)"],
      ["2001:db8::2", "EACCES", "the route to 2001:db8::2 is of type prohibit (EACCES)"],
    ];
    for (const [hostname, error, message] of cases) {
      const answer = await host.ask({ do: "dial", wire: "w", hostname, port: 9 });
      assert.deepEqual(answer, { error, message, lasting: false });
    }
  },
);

testUnless(
  await namespaceObstacle(),
  "dialer: ports that are used up, and an address family that is off, are named",
  async () => {
    await using host = Host.isolated([
      "echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range",
      "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    ]);
    const here = { hostname: "127.0.0.1", port: 9 };
    await host.ask({ do: "listen", ...here });
    for (const wire of ["one", "two"]) await host.ask({ do: "dial", wire, ...here });
    const noPort = "no free port (net.ipv4.ip_local_port_range)";
    for (const hostname of ["127.0.0.1", "::1"]) {
      assert.deepEqual(await host.ask({ do: "dial", wire: "w", hostname, port: 9 }), {
        error: "EADDRNOTAVAIL",
        message: `this host has no address for it, or ${noPort} (EADDRNOTAVAIL)`,
        lasting: false,
      });
    }
    assert.deepEqual(await host.ask({ do: "dial", wire: "w", ...here, source: "127.0.0.1" }), {
      error: "EADDRINUSE",
      message: `127.0.0.1 has ${noPort} (EADDRINUSE)`,
      lasting: false,
    });
  },
);
