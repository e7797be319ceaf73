# terraform_data's output is known once the provisioner has run: only then is the file read that it wrote.
locals {
  written = terraform_data.contents.output.kubeconfig
  cluster = fileexists(local.written) ? yamldecode(file(local.written)).clusters[0].cluster : null
}

output "kubeconfig" {
  description = "Path of the kubeconfig, readable by its owner alone."
  value       = local.written
}

output "endpoint" {
  description = "URL of the API server. Null when the kubeconfig is gone."
  value       = try(local.cluster.server, null)
}

output "ca_certificate" {
  description = "The cluster's CA in PEM."
  value       = try(base64decode(local.cluster["certificate-authority-data"]), null)
}
