// A real OpenID provider on 127.0.0.1: opaque access tokens, or JWTs for the resource `urn:api`.
// Prints its port; signs every user in as the `login_hint`, without asking.
import Provider from 'oidc-provider';
import http from 'node:http';

const { CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, LOGOUT_URI, JWKS } = process.env;

const server = http.createServer((request, response) => handler(request, response));
let handler = (_request, response) => response.writeHead(503).end();

server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET,
        redirect_uris: [REDIRECT_URI],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        scope: 'openid email profile offline_access',
        backchannel_logout_uri: LOGOUT_URI,
        backchannel_logout_session_required: true,
      },
      {
        client_id: 'another-application',
        client_secret: 'another-secret',
        redirect_uris: [REDIRECT_URI],
        grant_types: ['authorization_code'],
        response_types: ['code'],
      },
    ],
    jwks: JSON.parse(JWKS),
    cookies: { keys: ['for-tests-only'] },
    claims: {
      openid: ['sub'],
      email: ['email', 'email_verified'],
      profile: ['given_name', 'family_name'],
    },
    conformIdTokenClaims: false,
    issueRefreshToken: () => true,
    features: {
      backchannelLogout: { enabled: true },
      introspection: { enabled: true },
      devInteractions: { enabled: false },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = `<!DOCTYPE html>${form}`;
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'openid email profile',
          audience: 'urn:api',
          accessTokenFormat: 'jwt',
          accessTokenTTL: 3600,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        email: `${id}@clinic.example`,
        email_verified: true,
        given_name: 'Ada',
        family_name: 'Lovelace',
      }),
    }),
    extraTokenClaims: (_ctx, token) =>
      token.accountId ? { email: `${token.accountId}@clinic.example`, email_verified: true } : {},
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid email profile offline_access');
      grant.addResourceScope('urn:api', 'openid email profile');
      await grant.save();
      return grant;
    },
  });
  const callback = provider.callback();
  handler = async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return callback(request, response);
    const { params } = await provider.interactionDetails(request, response);
    const result = { login: { accountId: params.login_hint || 'ada' } };
    return provider.interactionFinished(request, response, result);
  };
  console.log(server.address().port);
});
