// Private endpoints of the storage accounts and the vault, with the DNS zones that make their names lead there.

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('The network whose machines are to find the endpoints.')
param networkId string

@description('The subnet of the endpoints.')
param subnetId string

@description('Storage account of the archive.')
param archiveStorageId string

@description('Storage account of the host.')
param hostStorageId string

@description('The vault.')
param vaultId string

var zoneNames = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  vault: 'privatelink.vaultcore.azure.net'
}
var groups = ['blob', 'queue', 'table', 'vault']
var endpoints = [
  { name: 'archive-blob', target: archiveStorageId, group: 'blob' }
  { name: 'archive-queue', target: archiveStorageId, group: 'queue' }
  { name: 'host-blob', target: hostStorageId, group: 'blob' }
  { name: 'host-queue', target: hostStorageId, group: 'queue' }
  { name: 'host-table', target: hostStorageId, group: 'table' }
  { name: 'vault', target: vaultId, group: 'vault' }
]

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for group in groups: {
    name: zoneNames[group]
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (group, at) in groups: {
    parent: zones[at]
    name: 'firn'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: networkId
      }
    }
  }
]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [
  for endpoint in endpoints: {
    name: 'pep-firn-${endpoint.name}'
    location: location
    tags: tags
    properties: {
      subnet: {
        id: subnetId
      }
      privateLinkServiceConnections: [
        {
          name: endpoint.name
          properties: {
            privateLinkServiceId: endpoint.target
            groupIds: [endpoint.group]
          }
        }
      ]
    }
  }
]

resource records 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [
  for (endpoint, at) in endpoints: {
    parent: privateEndpoints[at]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: endpoint.group
          properties: {
            privateDnsZoneId: zones[indexOf(groups, endpoint.group)].id
          }
        }
      ]
    }
  }
]
