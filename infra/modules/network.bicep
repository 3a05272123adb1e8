// The optional virtual network: the functions go out through one subnet, private endpoints lie in the other.

@description('Ending of the names.')
param token string

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: 'vnet-firn-${token}'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: ['10.0.0.0/24']
    }
    subnets: [
      {
        name: 'functions'
        properties: {
          addressPrefix: '10.0.0.0/25'
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: '10.0.0.128/26'
        }
      }
    ]
  }
}

@description('Resource id of the network.')
output id string = network.id

@description('Where the functions go out.')
output functionsSubnetId string = '${network.id}/subnets/functions'

@description('Where private endpoints lie.')
output endpointsSubnetId string = '${network.id}/subnets/endpoints'
