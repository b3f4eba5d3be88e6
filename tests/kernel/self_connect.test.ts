/**
 * Nobody listens, and the port is one that the kernel hands out: the socket
 * connects to itself. With a range of a single port it does so each time.
 */

import assert from "node:assert/strict";
import { testUnless } from "./helpers.ts";
import { Host, namespaceObstacle } from "./host.ts";

const PORT = 40_000;

testUnless(
  await namespaceObstacle(),
  "dialer: a socket that the kernel connected to itself is refused, and its port is free",
  async () => {
    await using host = Host.isolated([
      `echo ${PORT} ${PORT} > /proc/sys/net/ipv4/ip_local_port_range`,
      "ip addr add 192.0.2.1/32 dev lo",
      "ip addr add 2001:db8::1/128 dev lo nodad",
    ]);
    for (const hostname of ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.1", "2001:db8::1"]) {
      // A port left in TIME_WAIT would make the second attempt fail with EADDRNOTAVAIL.
      for (let attempt = 1; attempt <= 5; attempt++) {
        const { error, message } = await host.ask({ do: "dial", wire: "w", hostname, port: PORT });
        assert.equal(error, "SELF_CONNECTED", `${hostname}, attempt ${attempt}: ${message}`);
        assert.match(message ?? "", /^nobody listens on .*connected the socket to itself/);
      }
      assert.deepEqual(await host.ask({ do: "bind", hostname, port: PORT }), {});
    }
  },
);
