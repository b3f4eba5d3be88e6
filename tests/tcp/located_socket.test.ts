import assert from "node:assert/strict";
import { ClosedError } from "../../src/base/errors.ts";
import { findDescriptor, socketCookie } from "../../src/kernel/descriptor.ts";
import { closeDescriptor, libc } from "../../src/kernel/libc.ts";
import { LocatedSocket } from "../../src/tcp/located_socket.ts";
import { readTcpInfo } from "../../src/tcp/tcp_info.ts";
import { resetBy } from "../kernel/helpers.ts";
import { until } from "../support/until.ts";
import { pair } from "./helpers.ts";

const stateOf = (fd: number) => readTcpInfo(fd).state;

/** As on a kernel with cookies, and as on Linux before 4.12. */
for (const hasCookies of [true, false]) {
  const name = hasCookies ? "by its cookie" : "by its addresses, without cookies";
  const locate = (conn: Deno.TcpConn): LocatedSocket => {
    const found = findDescriptor(conn, 0);
    assert.ok(found !== undefined);
    return new LocatedSocket(conn, found, hasCookies ? socketCookie(found.fd) : undefined);
  };

  Deno.test(`a socket is known ${name}, until it is closed`, async () => {
    using both = await pair();
    const [socket, peer] = [locate(both.conn), locate(both.peer)];
    assert.equal(socket.read(stateOf)?.value, "ESTABLISHED");
    assert.equal(socket.change(stateOf), "ESTABLISHED");
    both.conn.close();
    assert.equal(socket.read(stateOf), undefined);
    assert.throws(() => socket.change(() => assert.fail("changed")), ClosedError);
    // The lowest free number is given out first: soon somebody else has it.
    using others = new DisposableStack();
    await until("its number is another's", async () => {
      const other = others.use(await pair());
      return [other.conn, other.peer].some((conn) => locate(conn).found.fd === socket.found.fd);
    });
    assert.equal(socket.read(stateOf), undefined);
    assert.throws(() => socket.change(() => assert.fail("changed")), ClosedError);
    assert.equal(peer.read(stateOf)?.value, "CLOSE_WAIT");
  });

  Deno.test(`a dead socket, known ${name}, ${hasCookies ? "is read" : "is not read"}`, async () => {
    using both = await pair();
    const [socket, witness] = [
      locate(both.conn),
      new LocatedSocket(
        both.conn,
        locate(both.conn).found,
        socketCookie(locate(both.conn).found.fd),
      ),
    ];
    resetBy(both.peer);
    await until("it is dead", () => witness.read(stateOf)?.value === "CLOSE");
    assert.equal(socket.read(stateOf)?.value, hasCookies ? "CLOSE" : undefined);
  });
}

Deno.test("a cookie is a socket's own, and no other socket has it", async () => {
  using first = await pair();
  using second = await pair();
  const cookies = [first.conn, first.peer, second.conn, second.peer].map((conn) => {
    const found = findDescriptor(conn, 0);
    return found === undefined ? undefined : socketCookie(found.fd);
  });
  assert.equal(new Set(cookies).size, 4);
  assert.ok(cookies.every((cookie) => cookie !== undefined && cookie > 0n));
  assert.equal(socketCookie(-1), undefined);
});

Deno.test("a descriptor is found wherever it lies, and not any more once it is closed", async () => {
  const F_DUPFD_CLOEXEC = 1030;
  for (const least of [2, 63, 64, 1087, 1088, 3000]) {
    using both = await pair();
    const found = findDescriptor(both.conn, 0);
    assert.ok(found !== undefined);
    const fd = libc().fcntl(found.fd, F_DUPFD_CLOEXEC, BigInt(least));
    assert.ok(fd >= least, `the process may not have ${least} descriptors open`);
    both.conn.close();
    assert.equal(findDescriptor(both.conn, 0)?.fd, fd);
    closeDescriptor(fd);
    assert.equal(findDescriptor(both.conn, 0), undefined);
  }
});
