// A workbook with the queries of infra/queries: is it healthy, what did it cost, what is stuck.

@description('Region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Where the logs are.')
param workspaceId string

var questions = [
  {
    title: 'Is it healthy?'
    query: loadTextContent('../queries/healthy.kql')
  }
  {
    title: 'What did it cost?'
    query: loadTextContent('../queries/cost.kql')
  }
  {
    title: 'What is stuck?'
    query: loadTextContent('../queries/stuck.kql')
  }
]

var items = [
  for question in questions: {
    type: 3
    content: {
      version: 'KqlItem/1.0'
      title: question.title
      query: question.query
      queryType: 0
      resourceType: 'microsoft.operationalinsights/workspaces'
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2022-04-01' = {
  // Workbooks are named by a GUID.
  name: guid(workspaceId, 'firn')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Firn'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: string({
      version: 'Notebook/1.0'
      items: items
    })
  }
}
