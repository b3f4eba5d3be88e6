import { testWithUnixSockets } from "../support/unix_sockets.ts";

testWithUnixSockets(import.meta.resolve("./unix_cases.ts"));
