// A certified OpenID Connect provider (npm oidc-provider) for the identity tests:
// node provider.mjs PORT KEYS CLIENTS, in a folder where oidc-provider is installed.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const require = createRequire(process.cwd() + '/');
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')).href);

const [port, keys, clients] = process.argv.slice(2);
const told = JSON.parse(clients);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: JSON.parse(keys),
  clients: Object.keys(told).map((id) => ({
    client_id: id, client_secret: `${id}-secret`, grant_types: ['client_credentials'],
    redirect_uris: [], response_types: [], id_token_signed_response_alg: 'ES256',
    dpop_bound_access_tokens: told[id].bound ?? false,
  })),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource, client) => ({
        audience: 'interlock', scope: 'submit read', accessTokenTTL: 300,
        accessTokenFormat: 'jwt', jwt: { sign: { alg: told[client.clientId].alg ?? 'ES256' } },
      }),
    },
  },
  extraTokenClaims: (ctx, token) => told[token.clientId].claims ?? {},
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
