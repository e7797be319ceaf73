# Machines that exist and let somebody in by SSH become a cluster, and are themselves again after destroy.
locals {
  cluster_file = "${abspath(path.root)}/${var.name}.yaml"
  kubeconfig   = "${abspath(path.root)}/${var.name}.kubeconfig"

  listed  = length([for m in var.machines : m if m.role == "worker"])
  workers = var.workers == null ? local.listed : var.workers

  spec = yamlencode({
    apiVersion = "kprov.dev/v1alpha1"
    kind       = "Cluster"
    metadata   = { name = var.name }
    spec = {
      provider     = "external"
      controlPlane = { replicas = length([for m in var.machines : m if m.role == "control-plane"]) }
      nodePools    = [{ name = "worker", replicas = local.workers }]
      external = {
        apiAddress = var.api_address
        machines = [for m in var.machines : merge(
          { address = m.address, role = m.role, user = m.user, port = m.port },
          m.key_file == "" ? {} : { keyFile = m.key_file },
          m.host_key == "" ? {} : { hostKey = m.host_key },
        )]
      }
    }
  })
}

# The cluster's life. Creating this makes nothing, so that terraform never taints it: it would not run the destroy provisioner of a
# tainted resource, and the machines of a creation that failed half-way would stay.
resource "terraform_data" "cluster" {
  triggers_replace = [var.name, var.api_address]
  input = {
    name  = var.name
    kprov = var.kprov
    files = [local.cluster_file, local.kubeconfig]
  }

  provisioner "local-exec" {
    when        = destroy
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      KPROV  = self.output.kprov
      NAME   = self.output.name
      FILE_1 = self.output.files[0]
      FILE_2 = self.output.files[1]
    }
    # A cluster whose creation never began is none to delete.
    command = <<-EOT
      clusters=$("$KPROV" get clusters -o json)
      case $clusters in *"\"name\": \"$NAME\""*) "$KPROV" delete cluster "$NAME" --yes ;; esac
      rm -f "$FILE_1" "$FILE_2"
    EOT
  }
}

# What the cluster is made of. It is made anew whenever the cluster file is another one, which for the cluster is a change.
resource "terraform_data" "contents" {
  triggers_replace = [terraform_data.cluster.id, local.spec]
  input            = { kubeconfig = local.kubeconfig }

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-euc"]
    environment = {
      KPROV           = var.kprov
      NAME            = var.name
      WAIT            = var.wait
      SPEC            = local.spec
      CLUSTER_FILE    = local.cluster_file
      KUBECONFIG_FILE = local.kubeconfig
    }
    command = <<-EOT
      umask 077
      printf '%s' "$SPEC" >"$CLUSTER_FILE"
      "$KPROV" apply -f "$CLUSTER_FILE" --yes --wait "$WAIT"
      "$KPROV" kubeconfig "$NAME" >"$KUBECONFIG_FILE"
    EOT
  }
}
