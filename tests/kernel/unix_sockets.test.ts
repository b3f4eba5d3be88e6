import { testWithUnixSockets } from "../support/unix_sockets.ts";

testWithUnixSockets(import.meta.resolve("./unix_wire_cases.ts"));
testWithUnixSockets(import.meta.resolve("./unix_dialer_cases.ts"));
