/** What a front end does with passkeys, in the browser of a test; see `test_passkeys.py`. */

import {
  createMyoMetricsClient,
  tokensInMemory,
  type MyoMetricsClient,
  type TokenStore,
} from "../src/client.js";
import { createPasskey, requestPasskey, type PasskeyRequest } from "../src/passkeys.js";

interface Credentials {
  email: string;
  password: string;
}

/** The outcome of a step: the status of the response, or the name of the browser's error. */
async function outcome(step: Promise<{ response: Response }>): Promise<number | string> {
  return step.then(
    ({ response }) => response.status,
    (error: unknown) => (error instanceof Error ? error.name : String(error)),
  );
}

async function passwordStep(client: MyoMetricsClient, store: TokenStore, body: Credentials) {
  const { data } = await client.POST("/api/auth/login/", { body });
  if (data === undefined) throw new Error("refused");
  if ("mfa_required" in data) return data.mfa_token;
  store.set({ access: data.access, refresh: data.refresh });
  return "";
}

async function verify(client: MyoMetricsClient, request: PasskeyRequest = {}) {
  const body = await requestPasskey(client, request);
  return client.POST("/api/auth/login/passkey/verify/", { body });
}

/** Sign in with the password and create a passkey. */
export async function register(origin: string, credentials: Credentials) {
  const store = tokensInMemory();
  const client = createMyoMetricsClient(origin, store);
  await passwordStep(client, store, credentials);
  try {
    const body = { ...(await createPasskey(client, credentials.password)), name: "Test" };
    const { data, error, response } = await client.POST("/api/auth/passkeys/register/verify/", {
      body,
    });
    const problems = Object.keys(error?.field_errors ?? {});
    return { status: response.status, codes: data?.recovery_codes.length, problems };
  } catch (error) {
    return { status: error instanceof Error ? error.name : String(error) };
  }
}

/** Sign in with a passkey alone, and use the session. */
export async function signIn(origin: string, request: PasskeyRequest = {}) {
  const store = tokensInMemory();
  const client = createMyoMetricsClient(origin, store);
  try {
    const { data, error, response } = await verify(client, request);
    if (data === undefined) return { status: response.status, code: error?.code };
    store.set({ access: data.access, refresh: data.refresh });
    const sessions = await client.GET("/api/auth/sessions/");
    const own = sessions.data?.results.find(({ current }) => current);
    return { status: 200, email: data.user.email, secondFactor: own?.second_factor };
  } catch (error) {
    return { status: error instanceof Error ? error.name : String(error) };
  }
}

/** Sign in with the password, then with a passkey. */
export async function secondFactor(origin: string, credentials: Credentials) {
  const store = tokensInMemory();
  const client = createMyoMetricsClient(origin, store);
  const token = await passwordStep(client, store, credentials);
  const answer = await requestPasskey(client, { mfaToken: token });
  const body = { mfa_token: token, ...answer };
  return outcome(client.POST("/api/auth/login/mfa/", { body }));
}

/** Send the same response twice. */
export async function replay(origin: string) {
  const client = createMyoMetricsClient(origin, tokensInMemory());
  const body = await requestPasskey(client);
  const send = () => outcome(client.POST("/api/auth/login/passkey/verify/", { body }));
  return [await send(), await send()];
}
